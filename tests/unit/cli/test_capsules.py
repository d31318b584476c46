"""``xlt pack``, ``xlt verify --stages 0`` and ``xlt results add`` as their users meet them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.command import Xlt
from tests.unit.report.conftest import Finished, finished, sized
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import LedgerError, SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import open_ledger
from xlt_ray.report.capsule import Capsule, add, faults_of, open_capsule, pack
from xlt_ray.report.results import Results
from xlt_ray.store.canonical import canonical_text, sealed


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """A sweep of three configurations, and its capsule."""
    folder = tmp_path_factory.mktemp("packed")
    text = sized(3).replace("name: quick", "name: quick\nnotify: https://example.org/s3cret-hook")
    done = finished(Home(folder / "home"), text)
    places = {"tracking": "http://ada:s3cret@mlflow.example.org", "ledger": None, "store": None}
    done.ledger.note("sweep", {**done.ledger.sweep, "places": places})
    pack(done.ledger, done.store, folder / "quick.tar")
    return done, folder / "quick.tar"


@pytest.fixture
def capsule(packed: tuple[Finished, Path]) -> Capsule:
    return open_capsule(packed[1])


def rewritten(
    capsule: Capsule, file: Path, change: Callable[[dict[str, bytes]], object], *, sign: bool = True
) -> Path:
    """The capsule with changed members, as somebody writes it who also makes a manifest."""
    members = {name: capsule.read(name) for name in capsule.members}
    change(members)
    if sign:
        import hashlib

        digests = {
            name: hashlib.sha256(content).hexdigest()
            for name, content in members.items()
            if name != "manifest.json"
        }
        members["manifest.json"] = sealed({**capsule.manifest, "members": digests})
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return file


def test_the_same_results_give_the_same_bytes_without_weights_and_secrets(
    packed: tuple[Finished, Path], capsule: Capsule, tmp_path: Path
) -> None:
    done, file = packed
    pack(done.ledger, done.store, tmp_path / "again.tar")
    content = file.read_bytes()
    assert (tmp_path / "again.tar").read_bytes() == content
    assert b"s3cret" not in content
    assert b"mlflow.example.org" not in content
    kinds = {name.split("/")[0] for name in capsule.members}
    assert kinds == {"manifest.json", "sweep.yaml", "ledger.json", "stages", "report"}
    stage_files = {name.split("/")[2] for name in capsule.members if name.startswith("stages/")}
    assert stage_files == {"record.json", "items.safetensors"}
    assert "report/index.html" in capsule.members
    again = sweep_of(parse_document(capsule.read("sweep.yaml").decode(), "sweep.yaml"))
    assert again.tree() == {**done.sweep.tree(), "notify": []}
    assert faults_of(capsule) == []


def test_weights_are_those_of_the_best_trial_alone(
    packed: tuple[Finished, Path], tmp_path: Path
) -> None:
    done, _ = packed
    pack(done.ledger, done.store, tmp_path / "weights.tar", weights=True)
    best = done.ledger.best()
    assert best is not None
    (key,) = (use.key for use in best.trial.stages if use.kind == "target")
    members = open_capsule(tmp_path / "weights.tar").members
    assert [name for name in members if name.endswith(".txt")] == [f"stages/{key}/weights.txt"]


def test_every_changed_byte_is_found_and_named(
    packed: tuple[Finished, Path], capsule: Capsule, tmp_path: Path, xlt: Xlt
) -> None:
    content, file = packed[1].read_bytes(), tmp_path / "changed.tar"
    record = next(name for name in capsule.members if name.endswith("/record.json"))
    places = {content.index(b'"name":"quick"') + 8: "manifest.json: was altered"}
    for member in ("ledger.json", record, "report/index.html"):
        part = capsule.members[member]
        for place in (0, part.size // 2, part.size - 1):
            places[part.offset + place] = f"{member}: was altered"
    # Bytes that are in no member: the owner in a header, and the zeros at the end.
    places[capsule.members[record].offset - 512 + 270] = f"{record}: is missing"
    places[len(content) - 1] = "around its members was altered"
    for place, named in places.items():
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        code, out, _ = xlt("verify", file, "--stages", "0")
        assert (code, named in out) == (1, True), (named, out)


def test_verify_says_what_is_right(packed: tuple[Finished, Path], xlt: Xlt) -> None:
    code, out, _ = xlt("verify", packed[1], "--stages", "0")
    assert code == 0
    assert "members and the keys of" in out


def test_a_record_whose_settings_were_changed_is_found_even_in_a_new_manifest(
    capsule: Capsule, tmp_path: Path
) -> None:
    record = next(name for name in capsule.members if name.endswith("/record.json"))

    def change(members: dict[str, bytes]) -> None:
        tree = json.loads(members[record])
        del tree["sha256"]
        tree["payload"]["seed"] += 1
        members[record] = sealed(tree)

    forged = open_capsule(rewritten(capsule, tmp_path / "forged.tar", change))
    assert faults_of(forged) == [f"{record}: its key does not follow from its settings"]


def test_values_of_other_types_are_refused(capsule: Capsule, tmp_path: Path) -> None:
    record = next(
        name for name in capsule.members
        if name.endswith("/record.json") and b'"kind":"evaluate"' in capsule.read(name)
    )  # fmt: skip

    def change(members: dict[str, bytes]) -> None:
        tree = json.loads(members[record])
        del tree["sha256"]
        tree["scores"][0]["value"] = "<script>"
        members[record] = sealed(tree)

    (fault,) = faults_of(open_capsule(rewritten(capsule, tmp_path / "forged.tar", change)))
    assert fault.startswith(f"{record} cannot be read")

    def change_trial(members: dict[str, bytes]) -> None:
        tree = json.loads(members["ledger.json"])
        tree["trials"][0]["attributes"]["message"] = ["no text"]
        tree["trials"][0]["state"] = "FAIL"
        tree["trials"][0]["values"] = None
        members["ledger.json"] = canonical_text(tree).encode()

    (fault,) = faults_of(open_capsule(rewritten(capsule, tmp_path / "forged.tar", change_trial)))
    assert fault.startswith("ledger.json cannot be read")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/outside", "report/../../outside", "stages/x/record.json", "other"]
)
def test_members_that_lead_elsewhere_are_refused(
    capsule: Capsule, tmp_path: Path, name: str
) -> None:
    file = rewritten(capsule, tmp_path / "x.tar", lambda members: members.update({name: b"x"}))
    with pytest.raises(SpecError, match="does not belong into a capsule"):
        open_capsule(file)


def test_pickles_and_links_are_refused(capsule: Capsule, tmp_path: Path) -> None:
    pickled = f"stages/{'ab' * 32}/model.bin"
    file = rewritten(capsule, tmp_path / "x.tar", lambda members: members.update({pickled: b"x"}))
    with pytest.raises(SpecError, match="pickled"):
        open_capsule(file)
    with tarfile.open(file, "w") as archive:
        link = tarfile.TarInfo("report/index.html")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(SpecError, match="is not a plain file"):
        open_capsule(file)
    file.write_bytes(b"no archive")
    with pytest.raises(SpecError, match="cannot be read"):
        open_capsule(file)


def test_an_added_sweep_is_shown_beside_own_ones_as_imported(
    packed: tuple[Finished, Path], home: Home, xlt: Xlt
) -> None:
    done, file = packed
    finished(home, sized(3).replace("name: quick", "name: own"))
    code, out, err = xlt("results", "add", file, "--as", "theirs")
    assert code == 0, err
    assert "added: theirs (3 trials" in out
    assert "with the same bits" in out

    theirs = Results(home, "theirs")
    assert theirs.scores.equals(Results(done.home, "quick").scores)
    assert theirs.trials["objective"].equals(Results(done.home, "quick").trials["objective"])
    assert list(theirs.trials["started"]) == list(Results(done.home, "quick").trials["started"])
    assert len(theirs.items()) == len(Results(done.home, "quick").items()) > 0

    marked = "imported from quick.tar"
    assert marked in theirs._repr_html_()
    assert marked in xlt("status").out
    assert [row["origin"][:8] for row in xlt("status", "--json").json] == ["", "imported"]
    assert marked in xlt("trials", "theirs").out
    assert marked in " ".join(xlt("compare", "own", "theirs").out.split())
    assert xlt("report", "theirs").code == 0
    assert marked in (home.imported("theirs").reports("theirs") / "index.html").read_text()


def test_an_imported_sweep_is_never_trained_upon(
    packed: tuple[Finished, Path], home: Home, xlt: Xlt
) -> None:
    done, file = packed
    add(open_capsule(file), home)
    for command in (
        ("resume", "quick"),
        ("stop", "quick", "--trial", "0"),
        ("report", "quick", "--log"),
    ):
        code, _, err = xlt(*command)
        assert code == 2
        assert "imported" in err
    with pytest.raises(LedgerError, match="was imported"):
        open_ledger(home, sweep_of(parse_document(sized(3), "quick.yaml")))
    key = next(iter(done.store))
    assert done.store.record(key) is not None
    assert not (home.root / "stages").exists()
    assert not (home.imported("quick").root / "mlflow").exists()
    with pytest.raises(LedgerError, match="--as quick-2"):
        add(open_capsule(file), home)
    assert xlt("rm", "quick", "--yes").code == 0
    assert home.imported_sweeps() == []


def test_a_stage_that_the_home_has_takes_no_more_disk(
    packed: tuple[Finished, Path], home: Home
) -> None:
    capsule = open_capsule(packed[1])
    add(capsule, home, "first")
    add(capsule, home, "second")
    member = next(name for name in capsule.members if name.endswith("/record.json"))
    places: list[Any] = [(home.imported(name).root / member).stat() for name in ("first", "second")]
    assert places[0].st_ino == places[1].st_ino
