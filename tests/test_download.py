"""Downloads arrive whole, once, and right, from servers that misbehave in every known way."""

import collections
import hashlib
import json
import os
import random
import subprocess
import sys
import threading

import pytest
from conftest import DATA, FORMAT
from servers import HubHandler, serve

import ddnb
from ddnb import CheckpointError
from ddnb.checkpoints import download
from ddnb.checkpoints.download import fetch, local_path

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_S", 0)


def leftovers(cache):
    return [p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]


@pytest.mark.parametrize("plan", [[], ["cut"], ["cut", "cut", 503], [500, "cut", "ignore range"], [429], ["no length"]])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_arrives_whole_whatever_happens_on_the_way(plan, sha256, cache):
    """Cut connections are resumed; a server that ignores ranges starts anew and must not be appended to."""
    with serve({"/model.ckpt": CONTENT}, plan=plan) as server:
        path = fetch(f"{server.url}/model.ckpt", sha256=sha256)
    assert path.read_bytes() == CONTENT
    assert leftovers(cache) == ["model.ckpt"]
    if plan == ["cut"]:
        assert [wanted for _, wanted in server.requests] == [None, f"bytes={len(CONTENT) // 2}-"]


@pytest.mark.parametrize("sha256", [SHA256, None])
@pytest.mark.parametrize("tagged", [True, False])
def test_a_file_that_is_cut_at_every_tenth_arrives_whole(sha256, tagged, cache):
    """Nine broken connections in a row, each a little later."""
    plan = [tenth / 10 for tenth in range(1, 10)]
    with serve({"/model.ckpt": CONTENT}, plan=plan, tagged=tagged) as server:
        assert fetch(f"{server.url}/model.ckpt", sha256=sha256).read_bytes() == CONTENT
    assert leftovers(cache) == ["model.ckpt"]


@pytest.mark.parametrize("plan", [["cut", "wrong range"], ["drip"], ["cut", "drip"], ["redirect", "cut"]])
def test_servers_that_answer_oddly_give_the_file_all_the_same(plan, cache):
    """A part from elsewhere was appended; a slow server taken for a dead one."""
    with serve({"/model.ckpt": CONTENT}, plan=plan) as server:
        assert fetch(f"{server.url}/model.ckpt").read_bytes() == CONTENT
    assert leftovers(cache) == ["model.ckpt"]


def test_endless_redirects_are_given_up(cache):
    """A server that sends one in a circle."""
    with (
        serve({"/model.ckpt": CONTENT}, plan=["redirect"] * 200) as server,
        pytest.raises(CheckpointError, match="redirect|302"),
    ):
        fetch(f"{server.url}/model.ckpt")
    assert leftovers(cache) == []


def test_a_file_that_changes_on_the_server_is_not_continued_with_the_new_one(cache):
    """The beginning of one version and the end of another, where no hash is known."""
    new = bytes(reversed(CONTENT))
    with serve({"/model.ckpt": CONTENT}, plan=["cut"], tagged=True, changed=new) as server:
        assert fetch(f"{server.url}/model.ckpt").read_bytes() == new


def test_progress_counts_every_byte_up_to_the_total():
    seen = []
    with serve({"/model.ckpt": CONTENT}, plan=["cut"]) as server:
        fetch(f"{server.url}/model.ckpt", on_progress=lambda *step: seen.append(step))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_what_an_earlier_run_left_is_built_upon_when_the_hash_is_known():
    with serve({"/model.ckpt": CONTENT}) as server:
        url = f"{server.url}/model.ckpt"
        part = local_path(url).with_name("model.ckpt.part")
        part.parent.mkdir(parents=True)
        part.write_bytes(CONTENT[:1_000_000])
        assert fetch(url, sha256=SHA256).read_bytes() == CONTENT
        assert server.requests == [("/model.ckpt", "bytes=1000000-")]


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_what_an_earlier_run_left_of_another_file_does_no_harm(stale, cache):
    """Without a hash it is not used; with one, the wrong result is removed and the next try is right."""
    with serve({"/model.ckpt": CONTENT}) as server:
        url = f"{server.url}/model.ckpt"
        part = local_path(url).with_name("model.ckpt.part")
        part.parent.mkdir(parents=True)
        part.write_bytes(stale)
        assert fetch(url).read_bytes() == CONTENT
        local_path(url).unlink()
        part.write_bytes(stale)
        try:
            path = fetch(url, sha256=SHA256)
        except CheckpointError:
            path = fetch(url, sha256=SHA256)
        assert path.read_bytes() == CONTENT


def test_a_wrong_file_is_removed_and_both_hashes_named(cache):
    with (
        serve({"/model.ckpt": CONTENT}, plan=["wrong bytes"]) as server,
        pytest.raises(CheckpointError, match=f"removed.*{hashlib.sha256(bytes(len(CONTENT))).hexdigest()}.*{SHA256}"),
    ):
        fetch(f"{server.url}/model.ckpt", sha256=SHA256)
    assert leftovers(cache) == []


@pytest.mark.parametrize(
    ("plan", "message"),
    [(["html"], "web page"), ([404], "404"), ([403], "403"), ([503] * 9, "could not be reached.*503")],
)
def test_refusals_say_what_the_server_said(plan, message, cache):
    with serve({"/model.ckpt": CONTENT}, plan=plan) as server, pytest.raises(CheckpointError, match=message):
        fetch(f"{server.url}/model.ckpt")
    assert leftovers(cache) == []


def test_no_network():
    with serve({}) as server:
        gone = server.url
    with pytest.raises(CheckpointError, match="could not be reached"):
        fetch(f"{gone}/model.ckpt")


def test_a_full_disk_is_seen_before_the_download(monkeypatch, cache):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    with serve({"/model.ckpt": CONTENT}) as server, pytest.raises(CheckpointError, match="GB are free.*DDNB_CACHE"):
        fetch(f"{server.url}/model.ckpt")
    assert leftovers(cache) == []


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DDNB_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="cannot be written.*DDNB_CACHE"):
        fetch("http://127.0.0.1:9/model.ckpt")


def test_interrupting_leaves_no_file_that_looks_whole(cache):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with serve({"/model.ckpt": CONTENT}) as server:
        with pytest.raises(KeyboardInterrupt):
            fetch(f"{server.url}/model.ckpt", sha256=SHA256, on_progress=interrupt)
        assert leftovers(cache) == ["model.ckpt.part"]
        assert fetch(f"{server.url}/model.ckpt", sha256=SHA256).read_bytes() == CONTENT


def test_endless_restarts_are_given_up():
    """A server without ranges that cuts every answer makes no progress, however its cuts vary."""
    with (
        serve({"/model.ckpt": CONTENT}, plan=["ignore range and cut"] * 50) as server,
        pytest.raises(CheckpointError, match="could not be reached"),
    ):
        fetch(f"{server.url}/model.ckpt")
    assert len(server.requests) < 12


def test_a_connection_that_breaks_is_not_a_disk_that_is_full(monkeypatch):
    def broken(_):
        raise ConnectionError("[SSL] record layer failure")

    monkeypatch.setattr(download, "_read", broken)
    with serve({"/model.ckpt": CONTENT}) as server, pytest.raises(CheckpointError, match="could not be reached.*SSL"):
        fetch(f"{server.url}/model.ckpt")


def test_a_useless_download_is_removed_and_fetched_anew():
    good = (DATA / "lightning.ckpt").read_bytes()
    with serve({"/kicks_48000_4096.ckpt": b'{"error": "busy"}'}) as server:
        url = f"{server.url}/kicks_48000_4096.ckpt"
        with pytest.raises(CheckpointError, match="download was removed"):
            ddnb.load(url)
        server.files["/kicks_48000_4096.ckpt"] = good
        assert ddnb.load(url).frames == 4096


@pytest.mark.slow
def test_two_processes_download_once(tmp_path, cache):
    """The second asks while the first is still receiving, and must wait instead of writing into the same file."""
    code = "import sys; from ddnb.checkpoints.download import fetch; print(len(fetch(sys.argv[1]).read_bytes()))"
    hold = threading.Event()
    with serve({"/model.ckpt": CONTENT}, delay=hold) as server:
        command = [sys.executable, "-c", code, f"{server.url}/model.ckpt"]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        threading.Timer(4, hold.set).start()
        answers = [process.communicate(timeout=60)[0].strip() for process in processes]
        assert answers == [str(len(CONTENT))] * 2
        assert len(server.requests) == 1


def test_links_of_one_name_are_kept_apart():
    with serve({"/a/model.ckpt": b"a" * 99, "/b/model.ckpt": b"b" * 99}) as server:
        assert fetch(f"{server.url}/a/model.ckpt").read_bytes() != fetch(f"{server.url}/b/model.ckpt").read_bytes()


# --- names with several sources -------------------------------------------------------------------------------


def test_a_link_loads_like_a_file(vectors):
    with serve({"/kicks_48000_4096.ckpt": (DATA / "lightning.ckpt").read_bytes()}) as server:
        ckpt = ddnb.load(f"{server.url}/kicks_48000_4096.ckpt", device="cpu")
    assert ckpt.name == "kicks_48000_4096"
    assert (ckpt(vectors["noise"], vectors["t"]) - vectors["unet_v"]).abs().max() < 1e-5


def use_registry(monkeypatch, tmp_path, *sources):
    entry = {"sample_rate": 48000, "frames": 4096, "licence": "MIT", "credit": "x", "sources": list(sources)}
    (tmp_path / "checkpoints.json").write_text(json.dumps({"mine": entry}))
    monkeypatch.setattr("ddnb.checkpoints.registry.PACKAGE", tmp_path)


def test_the_next_source_is_tried_and_a_fetched_one_kept(monkeypatch, tmp_path):
    content = (DATA / "lightning.ckpt").read_bytes()
    with serve({"/model.ckpt": content}, plan=[404]) as server:
        use_registry(
            monkeypatch,
            tmp_path,
            {"from": f"{server.url}/missing.ckpt"},
            {"from": f"{server.url}/model.ckpt", "sha256": hashlib.sha256(content).hexdigest()},
        )
        assert ddnb.load("mine").name == "mine"
        assert ddnb.load("mine").info["licence"] == "MIT"
        assert [path for path, _ in server.requests] == ["/missing.ckpt", "/model.ckpt"]  # nothing is asked twice


def test_when_all_fail_each_says_why(monkeypatch, tmp_path):
    with serve({"/page.ckpt": b"hello"}, plan=[404, "html"]) as server:
        use_registry(monkeypatch, tmp_path, *({"from": f"{server.url}/{name}.ckpt"} for name in ("gone", "page")))
        with pytest.raises(CheckpointError, match=r"any of 2 sources(.|\n)*gone\.ckpt.*404(.|\n)*page\.ckpt.*web page"):
            ddnb.load("mine")


# --- Google Drive ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["returns None", "raises"])
def test_drive_failures_of_both_gdowns_say_what_to_do(behaviour, monkeypatch):
    gdown = pytest.importorskip("gdown")

    def fails(**_):
        if behaviour == "raises":
            raise RuntimeError("Too many users have viewed or downloaded this file recently")

    monkeypatch.setattr(gdown, "download", fails)
    with pytest.raises(CheckpointError, match="copy the file to your own Drive"):
        fetch("drive:1AbC")


def test_drive_files_are_checked_and_kept(monkeypatch):
    gdown = pytest.importorskip("gdown")
    calls = []

    def download_to(*, id, output, quiet):
        calls.append(id)
        with open(output, "wb") as file:  # noqa: PTH123, as gdown does
            file.write(CONTENT)
        return output

    monkeypatch.setattr(gdown, "download", download_to)
    assert fetch("drive:1AbC", sha256=SHA256).read_bytes() == CONTENT
    assert fetch("drive:1AbC", sha256=SHA256).read_bytes() == CONTENT
    assert calls == ["1AbC"]
    with pytest.raises(CheckpointError, match="wrong file"):
        fetch("drive:other", sha256="0" * 64)


def test_unknown_kinds_of_source_are_refused():
    with pytest.raises(ValueError, match="known kinds: hf:, drive:"):
        fetch("ftp://example.org/x.ckpt")


# --- the Hub, in a process of its own: its address is read when its library is imported ---------------------------


def hub_load(server, sources, tmp_path, *, offline=False):
    """Load each source in one new process; return what it says of each."""
    code = (
        "import sys, ddnb\n"
        "for source in sys.argv[1:]:\n"
        "    try:\n"
        f"        ckpt = ddnb.load(source, device='cpu', **({FORMAT} if source.endswith('ckpt') else {{}}))\n"
        "        print('name', ckpt.name, ckpt.sample_rate, ckpt.frames, ckpt.info['weights_sha256'])\n"
        "    except ddnb.CheckpointError as error:\n"
        "        print('error', str(error).replace('\\n', ' '))\n"
    )
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
    environment["HF_HUB_OFFLINE"] = "1" if offline else "0"
    run = subprocess.run(
        [sys.executable, "-c", code, *sources],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout, run.stderr
    return run.stdout.strip().split("\n")


def hub_files(*names, repository="harmonai/tiny"):
    return {f"{repository}/{name}": (DATA / "diffusers" / name).read_bytes() for name in names}


@pytest.mark.slow
def test_hub_folders_and_files_load_and_then_offline(tmp_path):
    """Most published folders have only the .bin."""
    expected = ddnb.load(DATA / "diffusers").info["weights_sha256"]
    files = hub_files("unet/config.json", "unet/diffusion_pytorch_model.safetensors")
    files |= hub_files("unet/config.json", "unet/diffusion_pytorch_model.bin", repository="harmonai/bin")
    files |= {"someone/kicks/best.ckpt": (DATA / "lightning.ckpt").read_bytes()}
    files |= {
        "someone/single/readme.md": b"hello",
        "someone/single/files/a_48000_4096.ckpt": (DATA / "lightning.ckpt").read_bytes(),
    }
    half = "harmonai/half/unet/"
    files[f"{half}config.json"] = files["harmonai/bin/unet/config.json"]
    files[f"{half}diffusion_pytorch_model.fp16.bin"] = files["harmonai/bin/unet/diffusion_pytorch_model.bin"]
    sources = ["hf:harmonai/tiny", "hf:harmonai/bin", "hf:someone/kicks/best.ckpt", "hf:someone/single"]
    sources += ["hf:harmonai/half"]
    with serve(files, handler=HubHandler) as server:
        tiny, only_bin, best, single, half = first = hub_load(server, sources, tmp_path)
        assert single.startswith("name single 48000 4096") and half == f"name half 48000 4096 {expected}"
        assert tiny == f"name tiny 48000 4096 {expected}" and only_bin == f"name bin 48000 4096 {expected}"
        assert best.startswith("name best 48000 4096")
        asked = len(server.requests)
        assert hub_load(server, sources, tmp_path, offline=True) == first
        assert len(server.requests) == asked


def test_hub_refusals_say_what_is_missing(tmp_path):
    sources = {
        "hf:nobody/nothing": "does not exist on the Hub",
        "hf:harmonai/tiny": "holds no single checkpoint, but unet/config.json",
        "hf:harmonai/tiny/other.ckpt": "has no file other.ckpt",
    }
    with serve(hub_files("unet/config.json"), handler=HubHandler) as server:
        for said, message in zip(hub_load(server, sources, tmp_path), sources.values(), strict=True):
            assert message in said


def test_hub_out_of_reach(tmp_path):
    with serve({}, handler=HubHandler) as server:
        pass
    assert "cannot be reached" in hub_load(server, ["hf:harmonai/tiny"], tmp_path)[0]
