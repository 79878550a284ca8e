"""Responses of `/v1` that are about no rows: problems, and the list of models.

Tested in tests/api/openapi/test_document.py: what is answered fits these.
"""

from pydantic import BaseModel, Field


class ProblemEntry(BaseModel):
    """One place at fault.

    Attributes
    ----------
    pointer : str
        Where in the request, as RFC 6901 writes it.
    code : str
        What is wrong, as a name for programs.
    detail : str
        What is wrong, as a sentence.
    """

    pointer: str
    code: str
    detail: str


class Problem(BaseModel):
    """A problem as RFC 9457 has it.

    Attributes
    ----------
    type : str
        What kind of problem: `urn:temperance:problem:` and a name for programs.
    title : str
        The kind of problem, as a sentence.
    status : int
        Status of the response.
    detail : str
        What is wrong and what to do.
    instance : str
        `urn:uuid:` and the id of the request; the header `Temperance-Id` has it too.
    errors : list of ProblemEntry
        The first places at fault, 20 at most; absent where the problem is of no place.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[ProblemEntry] = Field(default_factory=list)


class ModelList(BaseModel):
    """The served models.

    Attributes
    ----------
    models : list of str
        Their names.
    """

    models: list[str]
