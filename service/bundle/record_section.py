"""What every part of `calibration.json` is, and the numbers in it.

Tested in tests/bundle/test_record.py.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.core.numerics import EXACT

Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(allow_inf_nan=False, ge=0.0)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
OwnShare = Annotated[float, Field(gt=0.0, le=1.0)]
"""Of a class that occurs."""
Count = Annotated[int, Field(ge=0, le=EXACT)]
Units = Annotated[int, Field(ge=1, le=EXACT)]


class RecordSection(BaseModel):
    """A part of the record."""

    model_config = ConfigDict(extra="forbid", frozen=True)
