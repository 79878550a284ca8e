"""Chains from files: their states, their groups, and what is left out."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
gemmi = pytest.importorskip("gemmi")

from service.core.numerics import Array
from service.training import protein_chains as chains
from service.training.failures import MissingData

BONDS = {"N": 1.33, "CA": 1.46, "C": 1.52, "O": 1.23}  # Å, from the atom before
HELIX, STRETCHED = (-57.0, -47.0), (-139.0, 135.0)  # φ and ψ in degrees, as in any textbook
LETTERS = np.random.default_rng(0).choice(list("ACDEFGHIKLMNQRSTVWY"), 400)
NAMES = {letter: gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in chains.AMINO_ACIDS}


def backbone(length: int, angles: tuple[float, float] = HELIX) -> Array:
    """N, CA, C and O of a chain whose residues all have the same torsion angles."""
    phi, psi = angles
    atoms = [np.array([0.0, 0.0, 0.0]), np.array([1.46, 0.0, 0.0]), np.array([2.0, 1.42, 0.0])]
    for _ in range(length):
        atoms.append(placed(atoms[-3:], BONDS["N"], 116.0, psi))
        atoms.append(placed(atoms[-3:], BONDS["CA"], 122.0, 180.0))
        atoms.append(placed(atoms[-3:], BONDS["C"], 111.0, phi))
    trace = np.array(atoms).reshape(-1, 3, 3)
    oxygens = [placed([n, ca, c], BONDS["O"], 121.0, psi + 180.0) for n, ca, c in trace[:length]]
    return np.concatenate([trace[:length], np.array(oxygens)[:, None]], axis=1)


def placed(last: list[Array], bond: float, angle: float, torsion: float) -> Array:
    """The next atom, from three before it, a bond length, a bond angle and a torsion angle."""
    a, b, c = last
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    theta, chi = np.radians([180.0 - angle, torsion])
    offset = [np.cos(theta), np.sin(theta) * np.cos(chi), np.sin(theta) * np.sin(chi)]
    return np.asarray(c + bond * np.array(offset) @ np.array([along, np.cross(normal, along), normal]))


def pdb(sequence: str, atoms: Array, *, chain: str = "A") -> str:
    lines: list[str] = []
    for number, (letter, residue) in enumerate(zip(sequence, atoms, strict=True), 1):
        for name, (x, y, z) in zip(chains.BACKBONE, residue, strict=True):
            place = f"{NAMES[letter]} {chain}{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
            lines.append(f"ATOM  {len(lines) + 1:5d}  {name:<3} {place}  1.00  0.00           {name[0]}")
    return "\n".join([*lines, "END", ""])


def letters(length: int, start: int = 0) -> str:
    return "".join(LETTERS[start : start + length])


def test_a_helix_is_a_helix_but_for_its_ends_and_a_stretched_chain_is_a_loop() -> None:
    helix = chains.states_of(letters(50), backbone(50))
    assert set(helix[3:-3]) == {chains.STATES.index("helix")}
    stretched = chains.states_of(letters(50), backbone(50, STRETCHED))
    assert set(stretched) == {chains.STATES.index("loop")}  # a strand needs a partner


def test_behind_a_gap_a_residue_gives_no_hydrogen_bond() -> None:
    atoms = backbone(50)
    atoms[25:] += 100.0
    states = chains.states_of(letters(50), atoms)
    loop = chains.STATES.index("loop")
    assert states[24] == states[25] == loop
    assert set(states[5:20]) == set(states[30:45]) == {chains.STATES.index("helix")}


def test_files_give_their_chains_and_what_is_no_structure_gives_none(tmp_path: Path) -> None:
    (tmp_path / "b.pdb").write_text(pdb(letters(45), backbone(45)))
    (tmp_path / "a.ent").write_text(pdb(letters(60, 100), backbone(60)))
    (tmp_path / "short.pdb").write_text(pdb(letters(39, 200), backbone(39)))
    (tmp_path / "torn.pdb.gz").write_text("no archive")
    (tmp_path / "torn.cif").write_text("no structure")
    (tmp_path / "notes.txt").write_text("no structure")
    files = chains.structure_files(tmp_path)
    assert [path.name for path in files] == ["a.ent", "b.pdb", "short.pdb", "torn.cif", "torn.pdb.gz"]
    found = chains.unique_chains([*files, *files])
    assert [chain.sequence for chain in found] == [letters(60, 100), letters(45)]
    assert [len(chain.states) for chain in found] == [60, 45]


def test_chains_that_are_alike_share_a_group_and_others_do_not() -> None:
    family = letters(120)
    mutated = "".join("A" if k % 3 == 0 else letter for k, letter in enumerate(family))
    part = family[20:80]
    groups = chains.similarity_groups([family, letters(120, 150), mutated, part])
    assert groups.tolist() == [0, 1, 0, 0]


def test_a_distant_relative_is_found_by_alignment_where_words_are_not_shared() -> None:
    family = letters(120)
    distant = "".join("A" if k % 2 == 0 else letter for k, letter in enumerate(family))
    assert chains.shared_words([family, distant])[0, 1] < chains.SIMILAR
    assert chains.similarity_groups([family, distant]).tolist() == [0, 0]


def test_the_data_set_holds_a_few_chains_of_every_group_as_padded_arrays() -> None:
    base = letters(80)
    near = [chains.Chain(base[k:], np.zeros(80 - k, dtype=np.intp)) for k in range(12)]
    other = chains.Chain(letters(50, 200), np.ones(50, dtype=np.intp))
    examples = chains.examples_of([*near, other])
    assert examples.groups is not None
    assert examples.groups.tolist() == [0] * chains.MOST_ALIKE + [1]
    assert examples.inputs.shape == examples.labels.shape == (chains.MOST_ALIKE + 1, chains.LONGEST)
    assert ((examples.inputs > 0) == (examples.labels >= 0)).all()
    assert (examples.inputs[-1, :50] == chains.tokens_of(other.sequence)).all()
    assert (examples.inputs.max(), set(examples.labels[-1, :50])) == (20, {1})


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"theseus-examples .* installs it"):
        chains.protein_chains(tmp_path)
