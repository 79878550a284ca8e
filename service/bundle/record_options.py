"""`[record]` of a manifest: what the record keeps of requests.

Tested in tests/bundle/test_manifest.py.
"""

from service.bundle.sections import Section, Switch


class RecordOptions(Section):
    """What the record keeps of requests to this model, besides what it keeps of all.

    Attributes
    ----------
    inputs : bool
        The rows themselves, encrypted per subject. Without it the record has a keyed digest of every row alone.
    """

    inputs: Switch = False
