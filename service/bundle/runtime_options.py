"""`[runtime]` of a manifest: how its graph is run.

Tested in tests/bundle/test_manifest.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from service.bundle.sections import Positive, Section, Size, Switch


class Runtime(Section):
    """How the graph is run; none of it changes an answer.

    Attributes
    ----------
    threads : int or None
        Within one operator, at most the processors that the process may use; 0 is all of them. None leaves it to
        the service's settings.
    deadline : float or None
        Seconds in which a request to this model is answered; the service's own deadline may be sooner.
    execution : {"auto", "inline", "thread"}
        On the event loop, or on a thread that leaves the loop free; by default as measured at the start.
    batch_rows : int
        Rows of several requests that one run may join; 1 never joins requests.
    queue : int
        Requests that may wait for the model; more are refused.
    share_weights : bool
        Weights of external files are mapped and not repacked, so that workers share them; batches run slower.
    """

    threads: Annotated[int, Field(strict=True, ge=0, le=256)] | None = None
    deadline: Positive | None = None
    execution: Literal["auto", "inline", "thread"] = "auto"
    batch_rows: Size = 1024
    queue: Size = 1024
    share_weights: Switch = False
