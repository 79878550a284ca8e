-- migration 1
CREATE TABLE documents (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('schema', 'basis')),
    content BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE contexts (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    verb TEXT NOT NULL,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    bundle_digest TEXT NOT NULL,
    graph_digest TEXT NOT NULL,
    calibration_digest TEXT NOT NULL,
    policy TEXT,
    site TEXT,
    prevalence TEXT,
    options TEXT NOT NULL,
    software TEXT NOT NULL,
    task TEXT NOT NULL,
    schema BLOB REFERENCES documents (digest),
    basis BLOB NOT NULL REFERENCES documents (digest),
    shadow_of INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE streams (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    name TEXT NOT NULL UNIQUE,
    started INTEGER NOT NULL,
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    link BLOB NOT NULL CHECK (length(link) = 32),
    key_id TEXT NOT NULL,
    signature BLOB NOT NULL
) STRICT;

-- A place is stream << 40 | sequence: entries of a stream lie together, in their order, by their key alone.
CREATE TABLE predictions (
    place INTEGER PRIMARY KEY,
    link BLOB NOT NULL CHECK (length(link) = 32),
    request_id TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    caller TEXT NOT NULL CHECK (instr(caller, char(0)) = 0),
    x_request_id TEXT CHECK (instr(x_request_id, char(0)) = 0),
    traceparent TEXT CHECK (instr(traceparent, char(0)) = 0),
    rows INTEGER NOT NULL CHECK (rows >= 0),
    latency INTEGER NOT NULL,
    context BLOB NOT NULL REFERENCES contexts (digest),
    columns BLOB NOT NULL,
    row_digests BLOB NOT NULL,
    ids BLOB,
    subjects BLOB,
    groups BLOB,
    key_id TEXT NOT NULL,
    shadow_of TEXT
) STRICT;
CREATE INDEX predictions_by_time ON predictions (created);
CREATE INDEX predictions_of_context ON predictions (context);
CREATE INDEX predictions_shadow_of ON predictions (shadow_of) WHERE shadow_of IS NOT NULL;

CREATE TABLE outcomes (
    arrival INTEGER PRIMARY KEY CHECK (arrival > 0),
    place INTEGER NOT NULL UNIQUE,
    link BLOB NOT NULL CHECK (length(link) = 32),
    request_id TEXT NOT NULL,
    row INTEGER NOT NULL CHECK (row >= 0),
    truth TEXT NOT NULL CHECK (instr(truth, char(0)) = 0),
    observed_at INTEGER NOT NULL,
    received INTEGER NOT NULL,
    source TEXT CHECK (instr(source, char(0)) = 0),
    ascertainment TEXT NOT NULL CHECK (ascertainment IN ('routine', 'action', 'audit')),
    caller TEXT NOT NULL CHECK (instr(caller, char(0)) = 0),
    contradicts INTEGER NOT NULL CHECK (contradicts IN (0, 1))
) STRICT;
CREATE INDEX outcomes_of ON outcomes (request_id, row);

CREATE TABLE events (
    place INTEGER PRIMARY KEY,
    link BLOB NOT NULL CHECK (length(link) = 32),
    created INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;

CREATE INDEX events_by_time ON events (created);

CREATE TABLE sealed (
    request_id TEXT NOT NULL,
    row INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('id', 'subject', 'group', 'input')),
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    key_id TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (request_id, row, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX sealed_of_subject ON sealed (subject);

CREATE TABLE subject_keys (
    request_id TEXT NOT NULL,
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    key_id TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    PRIMARY KEY (request_id, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX subject_keys_of_subject ON subject_keys (subject);

CREATE TABLE replies (
    caller BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    reserved INTEGER NOT NULL,
    content BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX replies_by_time ON replies (reserved);

CREATE TABLE anchors (
    stream INTEGER NOT NULL REFERENCES streams (number),
    sequence INTEGER NOT NULL,
    name TEXT NOT NULL,
    link BLOB NOT NULL,
    created INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (stream, sequence)
) STRICT, WITHOUT ROWID;

-- Working state of monitors: no part of the record.
CREATE TABLE states (
    name TEXT PRIMARY KEY,
    content TEXT NOT NULL CHECK (json_valid(content))
) STRICT, WITHOUT ROWID;

CREATE TABLE probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    checked INTEGER NOT NULL
) STRICT;

-- Numbers of outcomes are used once, those of deleted ones too.
CREATE TABLE arrivals (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO arrivals VALUES (1, 0);

-- Places that a transaction deletes, while it does: the only way past the triggers below.
CREATE TABLE pruning (
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;

CREATE TRIGGER predictions_unchanged BEFORE UPDATE ON predictions
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER predictions_kept BEFORE DELETE ON predictions
WHEN NOT EXISTS (SELECT 1 FROM pruning WHERE OLD.place BETWEEN first AND last)
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

CREATE TRIGGER outcomes_unchanged BEFORE UPDATE ON outcomes
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER outcomes_kept BEFORE DELETE ON outcomes
WHEN NOT EXISTS (SELECT 1 FROM pruning WHERE OLD.place BETWEEN first AND last)
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

CREATE TRIGGER events_unchanged BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER events_kept BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM pruning WHERE OLD.place BETWEEN first AND last)
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

CREATE TRIGGER contexts_unchanged BEFORE UPDATE ON contexts
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER contexts_kept BEFORE DELETE ON contexts
WHEN NOT EXISTS (SELECT 1 FROM pruning)
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

CREATE TRIGGER documents_unchanged BEFORE UPDATE ON documents
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER documents_kept BEFORE DELETE ON documents
WHEN NOT EXISTS (SELECT 1 FROM pruning)
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

CREATE TRIGGER streams_unchanged BEFORE UPDATE ON streams
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER streams_kept BEFORE DELETE ON streams
BEGIN SELECT RAISE(ABORT, 'append-only'); END;

CREATE TRIGGER anchors_unchanged BEFORE UPDATE ON anchors
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER anchors_kept BEFORE DELETE ON anchors
BEGIN SELECT RAISE(ABORT, 'append-only'); END;
