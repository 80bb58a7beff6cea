"""The evidence report, the exports, and the parts of the pages that offer them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from app.cli.commands import cli
from app.exports.card import model_card
from app.exports.hub import Pushes, check_push, push
from app.exports.serve import adapter_command, ask_command, whole_command
from app.exports.tables import csv_pieces, parquet
from app.exports.weights import trained_weights, zip_stream
from app.figures import drawing
from app.format import interval, percent
from app.gain_curves import gain_curves, gain_sentence
from app.pages.run_control import control_of, start_control
from app.pages.run_gain_charts import gain_charts
from app.pages.run_records import files_view
from app.pages.run_share import watch_mark, weights_view
from app.pages.settings_webhooks import webhooks_view
from app.report import gather, report_html, report_pdf
from app.report.words import verdict
from app.services import Services
from app.spot_checks import spot_check
from tests.app.scripted import HOSTILE, Player, Script, problem_set
from ttrl_engine.config import PRESETS
from ttrl_engine.errors import ConfigError
from ttrl_engine.stats import sampling_noise
from worker.rows import RunRow, SpotSaid
from worker.settings import Settings
from worker.states import JobState
from worker.store import Store, open_store
from worker.webhook import Webhook

TOKEN = "hf_aVerySecretTokenOfMine123"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    opened = open_store(tmp_path_factory.mktemp("share") / "data")
    labelled, unlabelled = problem_set("two-step sums", references=True), problem_set("mine", references=False)
    Player(opened, Script("Sums " + HOSTILE, labelled, total_steps=20, steps=20, alarm_at=12)).play()
    bare = PRESETS["quick-look"].config().with_changes(**{"data.benchmarks": []})
    script = Script("Without references", unlabelled, total_steps=6, steps=6, seed=5, config=bare)
    player = Player(opened, script)
    player.evaluate = lambda *_arguments: None  # type: ignore[method-assign]
    player.play()
    Player(opened, Script("Broke", labelled, steps=3, seed=3, ends=JobState.FAILED)).play()
    Player(opened, Script("Under way", labelled, total_steps=40, steps=4, seed=1, ends=None)).play()
    opened.submit_run(bare, "waits", labelled.content_hash)
    return opened


def run_of(store: Store, run_id: int) -> RunRow:
    run = store.run(run_id)
    assert run is not None
    return run


class Page(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")


@pytest.mark.parametrize("run_id", [1, 2, 3, 4, 5])
def test_the_report_runs_nothing_and_fetches_nothing(store, run_id):
    text = report_html(gather(store, run_of(store, run_id), time.time()))
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form"}
    assert all(address.startswith("#") for address in page.addresses)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text
    assert len(page.ids) == len(set(page.ids))


def test_the_report_has_the_gain_with_split_n_interval_verdict_and_the_line_to_beat(store):
    text = report_html(gather(store, run_of(store, 1), time.time()))
    for part in ("36 × 8", "12 × 8", "established", "maj@k", "Held-out", "Content hash", "ttrl-studio run run-1.yaml"):
        assert part in text
    assert "not established" in text
    assert run_of(store, 1).data_hash in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_what_a_model_or_a_person_wrote_is_escaped_in_the_report(store):
    text = report_html(gather(store, run_of(store, 1), time.time()))
    assert "&lt;img src=x onerror=" in text
    assert "<img" not in text
    assert "<script" not in text


def test_without_references_the_report_says_unknown_and_ranks_agreement(store):
    evidence = gather(store, run_of(store, 2), time.time())
    text = report_html(evidence)
    assert "Whether it got better is unknown" in text
    assert "this ranks agreement, not correctness" in text
    assert "unknown: no reference answers" in text
    assert evidence.movers is not None
    assert evidence.movers.measure == "consensus"
    assert evidence.movers.learned is None


@pytest.mark.parametrize(
    ("run_id", "words"),
    [(3, "The run has failed"), (4, "The run is still at work"), (5, "The run waits in the queue")],
)
def test_a_run_that_is_not_finished_has_a_report_that_says_so(store, run_id, words):
    assert words in report_html(gather(store, run_of(store, run_id), time.time()))


def test_the_best_and_worst_are_at_most_ten_and_in_order(store):
    movers = gather(store, run_of(store, 1), time.time()).movers
    assert movers is not None
    assert 0 < len(movers.best) <= 10
    changes = [mover.change for mover in movers.best]
    assert changes == sorted(changes, reverse=True)
    assert all(mover.change < 0 for mover in movers.worst)
    counted = (movers.learned, movers.degraded, movers.stable_right, movers.stable_wrong)
    assert sum(each or 0 for each in counted) == movers.num_problems == 48


def test_a_gain_whose_interval_covers_zero_is_not_established(store):
    row = next(each for each in store.evaluations(1) if each.step)
    from dataclasses import replace

    assert verdict(replace(row, gain=0.01, gain_low=-0.1, gain_high=0.1)) == "not established"
    assert verdict(replace(row, gain=0.1, gain_low=0.02, gain_high=0.2)) == "established"
    assert verdict(replace(row, gain=-0.1, gain_low=-0.2, gain_high=-0.02)) == "a loss is established"
    assert verdict(replace(row, gain=0.1, gain_low=None, gain_high=None)) == "unknown"


@pytest.mark.parametrize("run_id", [1, 5])
def test_the_pdf_is_vector_and_of_several_pages(store, run_id):
    content = report_pdf(gather(store, run_of(store, run_id), time.time()))
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page ") >= 3
    assert b"/Subtype /Image" not in content


def test_a_control_run_with_rewards_by_lot_is_named(store):
    labelled = problem_set("two-step sums", references=True)
    lots = PRESETS["quick-look"].config().with_changes(**{"vote.reward": "random"})
    with store.writing() as connection:
        connection.execute("UPDATE jobs SET state = 'stopped' WHERE state = 'queued'")
    control = Player(store, Script("By lot", labelled, total_steps=10, steps=10, learns=0.0, config=lots)).play()
    text = report_html(gather(store, run_of(store, 1), time.time()))
    assert f"Control run {control} (rewards by lot, 10 steps)" in text
    assert "This run is such a control itself." in report_html(gather(store, run_of(store, control), time.time()))


def test_an_unchecked_run_has_a_report_that_says_how_its_labels_come_to_be_checked(store):
    text = report_html(gather(store, run_of(store, 2), time.time()))
    assert "By a person&#x27;s word: unknown. Nobody has checked labels of this run." in text
    assert "judge 20 labels drawn at random" in text
    assert "By reference answers: unknown, this set has none." in text
    assert "Label accuracy by the spot check" not in text


def test_a_spot_check_is_in_the_report_with_n_interval_and_calibration(tmp_path):
    own = open_store(tmp_path)
    script = Script("Mine", problem_set("mine", references=False), total_steps=20, steps=20, seed=5, learns=0.4)
    run = run_of(own, Player(own, script).play())
    own.draw_spot_check(run.id)
    for index in range(20):
        check = spot_check(own, run)
        assert check is not None
        asked = check.next
        assert asked is not None
        said: SpotSaid = "wrong" if asked.newest.label is None or index % 4 == 0 else "right"
        own.say_spot_verdict(check.row, asked.problem.problem_id, asked.newest.step, said, asked.newest.label)
        text = report_html(gather(own, run, time.time())) if index in (3, 19) else ""
        if index == 3:
            assert "4 of at least 5 labels have been judged so far" in text
    check = spot_check(own, run)
    assert check is not None
    assert check.now.accuracy is not None
    assert f"By a person&#x27;s word: {percent(check.now.accuracy)} {interval(*check.now.interval)}" in text
    assert "n = 20 of 20 drawn, 95 % Wilson interval" in text
    assert "Consensus against correctness, spot check" in text
    assert "Expected calibration error" in text
    assert report_pdf(gather(own, run, time.time())).startswith(b"%PDF")


def test_the_gain_is_drawn_over_the_noise_of_its_base_and_beside_its_control(tmp_path):
    services = Services.open(Settings(data_dir=tmp_path))
    own, labelled = services.store, problem_set("two-step sums", references=True)
    run = run_of(own, Player(own, Script("Learns", labelled, total_steps=10, steps=10)).play())
    [curve, *_] = gain_curves(own, run)
    assert curve.control == ()
    assert "rewards by lot: unknown, no control was run" in gain_sentence(curve)
    start_control(services, run)
    control = control_of(own, run)
    assert control is not None
    Player.of(own, control, Script("By lot", labelled, total_steps=10, steps=10, learns=0.02)).play()
    [curve, *_] = gain_curves(own, run)
    base = own.scores(run.id, 0, "adapt", curve.split.problem_set)
    assert curve.noise == sampling_noise([each.num_correct for each in base], [each.num_samples for each in base])
    assert [row.step for row in curve.control] == [10]
    [chart, *_] = gain_charts(services, run)
    assert [series.name for series in chart.series] == [
        "This run",
        f"Rewards by lot (run {control.id})",
        "A/A noise of the base",
    ]
    assert curve.noise is not None
    assert chart.series[2].points == [(0, 0.0, -curve.noise, curve.noise), (10, 0.0, -curve.noise, curve.noise)]
    lot = curve.control[-1]
    assert f"at step 10, n = {lot.num_problems} problems × {lot.num_samples}" in gain_sentence(curve).split("by lot")[1]
    evidence = gather(own, run, time.time())
    assert "A/A noise of the base" in report_html(evidence)
    with drawing():
        axes = Figure().add_subplot()
        evidence.gain_panels[0].draw(axes)
        assert axes.get_legend_handles_labels()[1] == [
            "A/A noise of the base",
            "this run",
            f"rewards by lot (run {control.id})",
        ]


def test_the_card_has_figures_caveats_and_no_path_of_this_machine(store, tmp_path):
    card = model_card(gather(store, run_of(store, 1), time.time()))
    assert card.startswith("---\nlibrary_name: peft\n")
    assert "36 × 8" in card
    assert "## What this does not prove" in card
    # A block of code shows what is in it; everywhere else a name is escaped.
    assert "<img" not in card.partition("```yaml")[0].replace("\\<", "")
    config = PRESETS["quick-look"].config().with_changes(**{"model.source": str(tmp_path / "my-model")})
    run_id = store.submit_run(config, "path", run_of(store, 1).set_id)
    assert str(tmp_path) not in model_card(gather(store, run_of(store, run_id), time.time()))


def test_the_tables_hold_every_row_in_long_format(store):
    table = pq.read_table(io.BytesIO(parquet(store, 1, "metrics")))
    assert table.column_names == ["run_id", "step", "name", "value"]
    assert table.num_rows == store.row("SELECT count(*) FROM metrics WHERE run_id = 1")[0]
    for name in ("elections", "scores"):
        lines = "".join(csv_pieces(store, 1, name)).splitlines()
        assert len(lines) == 1 + store.row(f"SELECT count(*) FROM {name} WHERE run_id = 1")[0]
        assert pq.read_table(io.BytesIO(parquet(store, 5, name))).num_rows == 0


def test_the_commands_quote_what_a_config_holds(store):
    run = run_of(store, 1)
    assert adapter_command(run) is None  # bundled: nothing that vLLM could fetch
    assert "vllm serve ./run-1-merged --served-model-name run-1" in whole_command(run)
    hostile = run.config.with_changes(
        **{"model.source": "owner/name", "data.prompt_suffix": "'; rm -rf ~ #", "model.lora_rank": 20}
    )
    from dataclasses import replace

    changed = replace(run, config_json=hostile.model_dump_json())
    assert "--max-lora-rank 32" in (adapter_command(changed) or "")
    assert "'\"'\"'; rm -rf ~ #" in ask_command(changed, Path("/nowhere"))


def test_the_archive_of_weights_has_the_card_in_it(store):
    name, files = trained_weights(store, run_of(store, 1), time.time())
    archive = zipfile.ZipFile(io.BytesIO(b"".join(zip_stream(files, name))))
    assert archive.testzip() is None
    assert b"What this does not prove" in archive.read(f"{name}/README.md")


# the hub


@pytest.fixture
def online(monkeypatch) -> None:
    """The tests run with the hub switched off; here it is a server of ours, or one that is not there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # Large files by the open protocol of git-lfs, which our server speaks, and not by Xet's.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def hub(online) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that speaks the few words of the hub that a push needs."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            asked.append((self.path, body))
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                self.answer(401, {"error": f"no: {self.headers['authorization']}"})
            elif self.path == "/api/repos/create":
                self.answer(200, {"url": f"http://{self.headers['host']}/me/run-1"})
            elif "/preupload/" in self.path:
                names = [each["path"] for each in json.loads(body)["files"]]
                modes = {each: "lfs" if each.endswith(".safetensors") else "regular" for each in names}
                files = [{"path": each, "uploadMode": mode, "shouldIgnore": False} for each, mode in modes.items()]
                self.answer(200, {"files": files})
            elif self.path.endswith("/info/lfs/objects/batch"):
                upload = {"href": f"http://{self.headers['host']}/store/{{oid}}?signature=1"}
                objects = [
                    {**each, "actions": {"upload": {"href": upload["href"].format(oid=each["oid"])}}}
                    for each in json.loads(body)["objects"]
                ]
                self.answer(200, {"transfer": "basic", "objects": objects})
            else:
                self.answer(200, {"commitUrl": "https://huggingface.co/me/run-1/commit/1", "commitOid": "1" * 40})

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            # The storage is somebody else's: it gets a signed address and must never see the token.
            asked.append((self.path, f"{hashlib.sha256(content).hexdigest()} {self.headers['authorization']}"))
            self.answer(200, {})

        def answer(self, code: int, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_a_push_creates_the_repository_and_sends_every_file(hub, tmp_path):
    url, asked = hub
    (tmp_path / "a.json").write_text("{}")
    where = push([("README.md", "card"), ("a.json", tmp_path / "a.json")], "me/run-1", TOKEN, True, endpoint=url)
    assert where.endswith("/me/run-1")
    assert json.loads(asked[0][1])["name"] == "run-1"
    assert [path for path, _ in asked][-1].startswith("/api/models/me/run-1/commit/")
    assert '"README.md"' in asked[-1][1]
    assert '"a.json"' in asked[-1][1]


def test_large_files_go_to_the_storage_and_the_commit_names_them(hub, tmp_path):
    url, asked = hub
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(range(256)) * 4096)
    where = push([("README.md", "card"), ("model.safetensors", weights)], "me/run-1", TOKEN, True, endpoint=url)
    assert where.endswith("/me/run-1")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (f"/store/{digest}?signature=1", f"{digest} None") in asked
    lines = [json.loads(line) for line in asked[-1][1].splitlines()]
    sent = [each["value"] for each in lines if each["key"] == "lfsFile"]
    assert [(each["path"], each["oid"], each["size"]) for each in sent] == [("model.safetensors", digest, 1 << 20)]
    assert [each["value"]["path"] for each in lines if each["key"] == "file"] == ["README.md"]


def test_the_page_pushes_in_the_background_and_keeps_and_logs_no_token(hub, store, monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    url, asked = hub
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    pushes, run = Pushes(), run_of(store, 1)
    _, files = trained_weights(store, run, time.time())
    pushes.start(run.id, files, "me/run-1", TOKEN, True, True)
    deadline = time.monotonic() + 30
    while not ((last := pushes.last(run.id)) and last.is_over):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (last.error, last.url.endswith("/me/run-1")) == ("", True)
    assert any(path.startswith("/store/") for path, _ in asked)
    out, err = capfd.readouterr()
    assert TOKEN not in f"{out}{err}{caplog.text}{vars(pushes)}{last}"
    kept = [path for path in store.data_dir.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert kept == []


def test_a_refused_token_is_told_without_the_token(hub):
    with pytest.raises(ConfigError) as refusal:
        push([("README.md", "card")], "me/run-1", "hf_anotherSecretThatIsWrong", True, endpoint=hub[0])
    assert "does not accept the token" in str(refusal.value)
    assert "anotherSecret" not in str(refusal.value)


def test_a_push_without_a_network_says_so(online):
    with pytest.raises(ConfigError, match="could not be reached"):
        push([("README.md", "card")], "me/run-1", TOKEN, True, endpoint="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("repo", "allowed", "offline", "words"),
    [
        ("me/run-1", False, "", "switched the hub off"),
        ("me/run-1", True, "1", "HF_HUB_OFFLINE"),
        ("../run", True, "", "owner/name"),
        ("run", True, "", "owner/name"),
    ],
)
def test_a_push_that_cannot_be_is_refused_before_anything_is_sent(monkeypatch, repo, allowed, offline, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    with pytest.raises(ConfigError, match=words):
        check_push([("README.md", "card")], repo, TOKEN, allowed)


# the pages


def test_the_page_offers_the_merge_and_the_commands(store):
    services = Services.open(Settings(data_dir=store.data_dir))
    view = weights_view(services, run_of(store, 1), time.time())
    assert 'data-pick="merge:1"' in view
    assert "vllm serve" in view
    assert "No weights yet" in weights_view(services, run_of(store, 4), time.time())
    store.submit_export(1, "page")
    assert "It waits its turn" in weights_view(services, run_of(store, 1), time.time())


def test_each_download_of_a_run_is_named_by_its_file(store):
    named = re.findall(r"Download<span class=\"tt-sr\"> ([^<]+)</span>", files_view(run_of(store, 1), [], set(), 0.0))
    assert len(named) == len(set(named)) > 10
    assert "Config (YAML)" in named


def test_the_mark_for_the_browser_says_state_alarms_and_stall_escaped(store):
    services = Services.open(Settings(data_dir=store.data_dir))
    mark = watch_mark(services, run_of(store, 1), time.time())
    assert 'data-state="finished"' in mark
    assert 'data-alarms="1"' in mark
    assert "<img" not in mark
    running = run_of(store, 4)
    assert 'data-stalled="0"' in watch_mark(services, running, running.last_event_at or 0.0)
    since = int(running.last_event_at or 0.0)
    assert f'data-stalled="{since}"' in watch_mark(services, running, since + 1000.5)


def test_the_settings_show_the_host_of_a_webhook_and_nothing_else_of_its_address():
    hook = Webhook("abc", "slack", "https://hooks.example/services/T0/S3CRET?key=S3CRET", ("finished",), 0.0)
    view = webhooks_view([hook], [], 0.0)
    assert "hooks.example" in view
    assert "S3CRET" not in view
    assert "Nothing is sent to anybody" in webhooks_view([], [], 0.0)


# the command line


def test_the_command_line_writes_reports_and_exports(store, tmp_path):
    data = ["--data-dir", str(store.data_dir)]
    for arguments, start in (
        (["report", "1", "--out", str(tmp_path / "r.html")], b"<!doctype html>"),
        (["export", "1", "metrics", "--out", str(tmp_path / "m.parquet")], b"PAR1"),
        (["export", "1", "elections", "--out", str(tmp_path / "e.csv")], b"run_id,"),
        (["export", "1", "card", "--out", str(tmp_path / "c.md")], b"---"),
        (["export", "1", "adapter", "--out", str(tmp_path / "a.zip")], b"PK"),
    ):
        answer = CliRunner().invoke(cli, [*arguments, *data], catch_exceptions=False)
        assert answer.exit_code == 0
        assert Path(arguments[-1]).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "99", "--out", "x.html"], "There is no run 99"),
        (["report", "1", "--out", "x.docx"], "ends with neither"),
        (["export", "1", "secrets", "--out", "x"], "cannot be exported"),
        (["export", "4", "adapter", "--out", "x.zip"], "no trained weights yet"),
        (["export", "1", "merged", "--out", "x.zip"], "Start it: ttrl-studio up"),
    ],
)
def test_the_command_line_says_why_it_cannot(store, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(cli, [*arguments, "--data-dir", str(store.data_dir)])
    assert words in str(answer.exception)
    assert list(tmp_path.iterdir()) == []
