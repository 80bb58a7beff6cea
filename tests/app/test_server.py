"""The web process from outside: readiness, the guard, the frame of the pages, downloads."""

from __future__ import annotations

import io
import zipfile

import httpx
import pytest

from app.guard import framed
from app.routes import PAGES


def test_ready_when_the_database_answers(studio):
    answer = httpx.get(f"{studio.url}/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"ok": True}


def test_a_foreign_host_name_is_refused(studio):
    assert httpx.get(f"{studio.url}/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_a_write_from_another_site_is_refused(studio, headers):
    answer = httpx.post(f"{studio.url}/gradio_api/upload", headers=headers, files={"files": ("a.txt", b"x")})
    assert answer.status_code == 403


def test_every_answer_has_safe_headers_and_no_cors_permission(studio):
    for path in ("/", "/healthz", "/studio/studio.css", "/gradio_api/info"):
        headers = httpx.get(f"{studio.url}{path}", headers={"origin": "https://evil.example"}).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert not any(name.startswith("access-control-") for name in headers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.title)
def test_a_page_arrives_with_its_title_and_navigation(studio, page):
    text = httpx.get(f"{studio.url}{page.url}").text
    assert f"<title>{page.title} · TTRL Studio</title>" in text
    assert text.count('class="tt-header"') == 1
    assert text.count("aria-current=page") == 1
    assert "raw.githubusercontent.com" not in text


def test_a_page_without_the_places_to_fill_is_left_alone():
    assert framed(b"<p>not one of ours</p>", ("t", "h", "b")) == b"<p>not one of ours</p>"


def test_weights_download_as_a_valid_archive(studio):
    answer = httpx.get(f"{studio.url}/download/runs/{studio.runs['finished']}/adapter.zip")
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    folder = f"run-{studio.runs['finished']}-adapter"
    names = ("README.md", "adapter_config.json", "adapter_model.safetensors")
    assert set(archive.namelist()) == {f"{folder}/{name}" for name in names}


def test_links_are_left_out_of_the_archive(studio):
    policy = studio.store.run_folder(studio.runs["weak"]) / "policy"
    (policy / "stray").symlink_to("/etc/hostname")
    answer = httpx.get(f"{studio.url}/download/runs/{studio.runs['weak']}/adapter.zip")
    assert not any("stray" in name for name in zipfile.ZipFile(io.BytesIO(answer.content)).namelist())


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("metrics.csv", b"step,"),
        ("evaluations.csv", b"step,split,"),
        ("config.yaml", b"name:"),
        ("table/metrics.csv", b"run_id,step,"),
        ("table/elections.parquet", b"PAR1"),
        ("card.md", b"---"),
        ("report.html", b"<!doctype html>"),
        ("report.pdf", b"%PDF"),
        ("log.txt", b"Loading"),
        ("figure.png", b"\x89PNG"),
        ("figure.svg", b"<?xml"),
        ("figure.pdf", b"%PDF"),
    ],
)
def test_every_file_of_a_run_downloads(studio, name, start):
    for kind in ("finished", "unlabelled", "running"):
        answer = httpx.get(f"{studio.url}/download/runs/{studio.runs[kind]}/{name}", timeout=60)
        assert answer.status_code == 200
        assert answer.content.startswith(start)
        assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("ident", ["0", "-1", "999999", "9" * 30])
def test_an_unknown_run_has_no_files(studio, ident):
    assert httpx.get(f"{studio.url}/download/runs/{ident}/metrics.csv").status_code == 404


@pytest.mark.parametrize("ident", ["..", "1%2f..", "a", "1;ls"])
def test_an_id_that_is_no_number_is_refused(studio, ident):
    assert httpx.get(f"{studio.url}/download/runs/{ident}/log.txt").status_code in (404, 422)


def test_a_run_without_weights_says_so(studio):
    answer = httpx.get(f"{studio.url}/download/runs/{studio.runs['queued']}/adapter.zip")
    assert answer.status_code == 404
    assert "no trained weights yet" in answer.text


def test_a_run_that_was_not_merged_says_so(studio):
    answer = httpx.get(f"{studio.url}/download/runs/{studio.runs['finished']}/merged.zip")
    assert answer.status_code == 404
    assert "not made yet" in answer.text


@pytest.mark.parametrize("name", ["settings.csv", "problems.parquet", "..%2fjobs.csv", "jobs.csv"])
def test_no_other_table_can_be_asked_for(studio, name):
    assert httpx.get(f"{studio.url}/download/runs/{studio.runs['finished']}/table/{name}").status_code in (404, 422)
