"""Test-Time Reinforcement Learning: the method, usable alone. Import the submodules; nothing is re-exported here."""
