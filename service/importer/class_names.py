"""Class names in output order, and where they come from.

Tested in tests/importer/test_import_model.py.
"""

from service.errors import GraphError
from service.graph.inspect import Findings, check_class_order, named_in_metadata
from service.importer.declared import DECLARED, Conclusion, Declared


def conclude_classes(findings: Findings, declared: Declared, columns: int, *, multilabel: bool) -> Conclusion:
    """Class names in output order.

    Raises
    ------
    GraphError
        If another number of classes is named than the output has.
    ManifestInvalid
        If the graph lists the same names in another order.
    """
    k = columns if multilabel else max(2, columns)
    if declared.classes is not None:
        if len(declared.classes) != k:
            raise GraphError(f"--classes names {len(declared.classes)} classes; the output has {k}")
        if not multilabel:
            check_class_order(findings.classes or named_in_metadata(findings), declared.classes)
        return Conclusion("classes", declared.classes, DECLARED)
    if multilabel:
        return Conclusion("classes", tuple(map(str, range(k))), "nothing names the labels: numbered in output order")
    if findings.classes is not None and len(findings.classes) == k:
        return Conclusion("classes", findings.classes, findings.classes_from + _contradicted(findings))
    return _written(findings, k)


def _written(findings: Findings, k: int) -> Conclusion:
    """Class names of the file's metadata, where those of that number agree; otherwise their numbers."""
    fitting = [(names, where) for names, where in findings.classes_written if len(names) == k]
    if fitting and len({names for names, _ in fitting}) == 1:
        return Conclusion("classes", *fitting[0])
    others = [n for n in (findings.classes, *(names for names, _ in findings.classes_written)) if n is not None]
    why = "nothing names them"
    if fitting:
        why = "the file's metadata names them in several ways (give the right ones: --classes a,b,…)"
    elif others:
        why = f"the graph names {len(others[0])}, not {k}, so nothing names them"
    return Conclusion("classes", tuple(map(str, range(k))), f"{why}: numbered in output order")


def _contradicted(findings: Findings) -> str:
    """A note where the file's metadata names other classes than the operators do."""
    for names, where in findings.classes_written:
        if names != findings.classes:
            what = "another order" if set(names) == set(findings.classes or ()) else "other names"
            return f"; {where}, has {what}, which no operator answers"
    return ""
