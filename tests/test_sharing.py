"""Sharing an experiment by DVC: push, clone, pull, and nothing runs again; models of it in other projects.

The graph is dvc.yaml's up to the world model, over one source. Its outputs are recorded by `dvc commit` instead of
training: small untrained models where something loads them, elsewhere any bytes. tests/test_pipeline.py does the same
with the whole graph and what its stages really wrote.
"""

import contextlib
import importlib.util
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from roboalign.__main__ import main
from roboalign.io import write_text
from roboalign.spec.compose import FOLDER, compose_params, write
from roboalign.spec.graph import stages
from roboalign.spec.library import Library
from roboalign.spec.lock import md5 as file_md5
from roboalign.spec.weights import CheckpointInitSpec
from roboalign.types import Episode
from roboalign.world_model.init import initialize_world_model
from roboalign.world_model.model import load_world_model, seeded_world_model
from tests.experiment_files import write_experiment
from tests.small_models import equal

if TYPE_CHECKING:
    from dvc.repo import Repo

ROOT = Path(__file__).parent.parent
TRACKED = ("roboalign", "stages", "specs", "annotations", "external", "dvc.yaml", ".dvc", ".dvcignore", ".gitignore")
SOURCE = "fetch"
"""A source that specs/ has; its episodes are toy ones here."""
STAGES = ("compose", "episodes", "sources", "tokenizer", "tokens", "world_model")
NAME = "world-model"
"""The name of the world model in registries."""
needs_dvc_s3 = pytest.mark.skipif(
    importlib.util.find_spec("dvc_s3") is None, reason="dvc-s3 is not installed; install the extra `remote`"
)
MODEL = "artifacts/world_model/model.safetensors"
TOKENIZER = "artifacts/tokenizer/model.safetensors"
LOCAL = ".dvc/config.local"
Capture = pytest.CaptureFixture[str]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@contextlib.contextmanager
def dvc(folder: Path) -> "Iterator[Repo]":
    """The DVC repository at `folder`, which becomes the working directory, as DVC's commands need it."""
    from dvc.repo import Repo

    with contextlib.chdir(folder), Repo() as repo:
        yield repo


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, toy_episodes: list[Episode]) -> Path:
    """A repository with all STAGES recorded, in git and in DVC's cache; not pushed yet."""
    root = tmp_path_factory.mktemp("sharing") / "origin"
    for file in git(ROOT, "ls-files", *TRACKED).splitlines():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["use"]["experiment"], params["sources"], params["set"] = "smoke", [SOURCE], {}
    write_text(root / "params.yaml", yaml.safe_dump(params))
    training = [episode for episode in toy_episodes if episode.split == "train"]
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph = {"stages": {name: graph["stages"][name] for name in STAGES}, "artifacts": {NAME: graph["artifacts"][NAME]}}
    write_text(root / "dvc.yaml", yaml.safe_dump(graph, sort_keys=False))
    write_experiment(root, [replace(episode, source=SOURCE) for episode in training])
    write(compose_params(Library(root)), root / FOLDER)
    for out in (out for stage in stages(root, params) for out in stage.outs):
        if not (root / out).exists():
            write_text(root / out / "output.txt" if "." not in Path(out).name else root / out, f"{out}\n")
    git(root, "init", "-q")
    with dvc(root) as repo:
        repo.commit(force=True)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "results")
    return root


@pytest.fixture(scope="module")
def folder_remote(origin: Path) -> str:
    """The name of a remote in a local folder, pushed to, in the committed configuration."""
    with (origin / ".dvc/config").open("a") as file:
        file.write(f"    remote = folder\n['remote \"folder\"']\n    url = {origin.parent / 'folder'}\n")
    git(origin, "commit", "-q", "-a", "-m", "a remote")
    with dvc(origin) as repo:
        assert repo.push() > 0
    return "folder"


@pytest.fixture(scope="module")
def s3_remote(origin: Path) -> Iterator[str]:
    """The name of a remote in a bucket of an S3-compatible server on loopback, pushed to; the address is in the
    configuration that is not in git."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/models", method="PUT")).close()  # creates the bucket
        write_text(
            origin / LOCAL,
            "['remote \"s3\"']\n    url = s3://models/roboalign\n    region = us-east-1\n"
            f"    endpointurl = {url}\n    access_key_id = test\n    secret_access_key = test\n",
        )
        with dvc(origin) as repo:
            assert repo.push(remote="s3") > 0
        yield "s3"
    finally:
        server.stop()


@pytest.fixture(params=["folder", pytest.param("s3", marks=needs_dvc_s3)])
def remote(request: pytest.FixtureRequest) -> str:
    """The name of a remote that has been pushed to, of each kind."""
    name: str = request.getfixturevalue(f"{request.param}_remote")
    return name


def clone(origin: Path, folder: Path) -> Path:
    """A clone, with the configuration that is not in git, if there is any."""
    git(origin.parent, "clone", "-q", str(origin), str(folder))
    if (origin / LOCAL).exists():
        shutil.copy(origin / LOCAL, folder / LOCAL)
    return folder


def test_nothing_runs_after_a_pull(origin: Path, remote: str, tmp_path: Path) -> None:
    folder = clone(origin, tmp_path / "clone")
    assert not (folder / "artifacts").exists()
    with dvc(folder) as repo:
        repo.pull(remote=remote)
        assert [stage.addressing for stage in repo.reproduce()] == []
    assert git(folder, "status", "--porcelain") == ""
    assert equal(*(load_world_model(root / MODEL) for root in (origin, folder)))


def test_verify_names_what_a_remote_lacks_and_what_is_damaged_there(origin: Path, remote: str, capsys: Capture) -> None:
    command = ["--root", str(origin), "verify", "--remote", remote]
    assert main(command) == 0
    assert f"in the remote {remote} too" in capsys.readouterr().out
    with dvc(origin) as repo:
        store = repo.cloud.get_remote_odb(remote)
    places = {name: store.oid_to_path(file_md5(origin / name)) for name in (TOKENIZER, "artifacts/tokens/output.txt")}
    content = {place: store.fs.cat_file(place) for place in places.values()}
    lost, damaged = places.values()
    try:
        store.fs.remove(lost)
        store.fs.pipe_file(damaged, content[damaged][:-1] + b"!")
        assert main(command) == 1
        out = capsys.readouterr().out
        assert "(artifacts/tokenizer/model.safetensors) is missing; remove it there, then `dvc push -r" in out
        assert "(artifacts/tokens/output.txt) is damaged; remove it there, then `dvc push -r" in out
        assert "2 of " in out
    finally:
        for place, data in content.items():
            store.fs.pipe_file(place, data)


def check_initial_weights(origin: Path, folder: Path, scratch: Path) -> None:
    """A world model of other weights starts from those in `folder`, which are those of `origin`."""
    trained = load_world_model(origin / MODEL)
    model = seeded_world_model(trained.spec, trained.shape, 1)
    assert not equal(model, trained)
    initialize_world_model(model, CheckpointInitSpec(kind="checkpoint", uri=str(folder)), scratch)
    assert equal(model, trained)


def test_another_project_imports_a_model_and_starts_from_it(origin: Path, folder_remote: str, tmp_path: Path) -> None:
    from dvc.repo import Repo

    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    Repo.init(str(project)).close()
    with dvc(project) as repo:
        repo.imp(str(origin), "artifacts/world_model", "weights")
    source = yaml.safe_load((project / "weights.dvc").read_text())["deps"][0]
    assert source["repo"]["rev_lock"] == git(origin, "rev-parse", "HEAD").strip()
    check_initial_weights(origin, project / "weights", tmp_path / "scratch")


def test_a_registered_version_of_a_model_is_fetched_by_its_name(
    origin: Path, folder_remote: str, tmp_path: Path
) -> None:
    from dvc.api import artifacts_show
    from dvc.repo.artifacts import Artifacts

    git(origin, "tag", "-a", f"{NAME}@v1.0.0", "-m", "the first")
    assert artifacts_show(NAME, version="v1.0.0", repo=str(origin))["path"] == "artifacts/world_model"
    Artifacts.get(str(origin), NAME, out=str(tmp_path / "weights"))
    check_initial_weights(origin, tmp_path / "weights", tmp_path / "scratch")
