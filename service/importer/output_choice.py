"""Which tensor of a graph carries the scores.

Tested in tests/importer/test_import_model.py.
"""

from collections.abc import Sequence

from service.errors import GraphError
from service.graph.inspect import Findings
from service.graph.output_evidence import Output
from service.importer.declared import DECLARED, Declared

MOST_NAMED = 12
REMEDY = "export a classifier's probabilities or logits, not only its label"


def choose_output(findings: Findings, declared: Declared) -> tuple[Output, str]:
    """The tensor of scores, and why this one.

    Raises
    ------
    GraphError
        If there is none, or several of which the user must choose.
    """
    names = [output.name for output in findings.outputs]
    if declared.output is not None:
        for output in findings.outputs:
            if output.name == declared.output:
                return output, DECLARED
        if made := findings.decisions.get(declared.output):
            raise GraphError(
                f"--output: {declared.output!r} is what {made} made of scores: a label, no score; {REMEDY}"
            )
        raise GraphError(
            f"--output: the graph has no such floating-point tensor (it has {_some(names, ', ') or 'none'})"
        )
    if len(names) == 1:
        return findings.outputs[0], "the only floating-point tensor"
    if names:
        raise GraphError(
            f"the graph has several outputs; name the one that carries the scores: --output {_some(names, '|')}"
        )
    if findings.decisions:
        answers = [f"{name!r} is what {operator} made of scores" for name, operator in findings.decisions.items()]
        shown = _some(answers, ", ")
        raise GraphError(
            f"the graph has no floating-point tensor among its outputs that holds scores ({shown}); {REMEDY}"
        )
    raise GraphError(f"the graph has no floating-point tensor among its outputs; {REMEDY}")


def _some(names: Sequence[str], separator: str) -> str:
    return separator.join([*names[:MOST_NAMED], *(["…"] if len(names) > MOST_NAMED else [])])
