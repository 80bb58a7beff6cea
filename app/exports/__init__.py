"""What a run gives to other programs: weights with a filled-in card, tables, commands to serve it, the hub."""
