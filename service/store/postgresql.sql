-- migration 1
CREATE TABLE documents (
    digest BYTEA PRIMARY KEY CHECK (length(digest) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('schema', 'basis')),
    content BYTEA NOT NULL
);

CREATE TABLE contexts (
    digest BYTEA PRIMARY KEY CHECK (length(digest) = 32),
    verb TEXT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    bundle_digest TEXT NOT NULL,
    graph_digest TEXT NOT NULL,
    calibration_digest TEXT NOT NULL,
    policy TEXT,
    site TEXT,
    prevalence TEXT,
    options TEXT NOT NULL,
    software TEXT NOT NULL,
    task TEXT NOT NULL,
    schema BYTEA REFERENCES documents (digest),
    basis BYTEA NOT NULL REFERENCES documents (digest),
    shadow_of BIGINT
);

CREATE TABLE streams (
    number BIGINT PRIMARY KEY CHECK (number > 0),
    name TEXT NOT NULL UNIQUE,
    started BIGINT NOT NULL,
    previous BYTEA NOT NULL CHECK (length(previous) = 32),
    link BYTEA NOT NULL CHECK (length(link) = 32),
    key_id TEXT NOT NULL,
    signature BYTEA NOT NULL
);

-- A place is stream << 40 | sequence: entries of a stream lie together, in their order, by their key alone.
CREATE TABLE predictions (
    place BIGINT PRIMARY KEY,
    link BYTEA NOT NULL CHECK (length(link) = 32),
    request_id TEXT NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    caller TEXT NOT NULL,
    x_request_id TEXT,
    traceparent TEXT,
    rows BIGINT NOT NULL CHECK (rows >= 0),
    latency BIGINT NOT NULL,
    context BYTEA NOT NULL REFERENCES contexts (digest),
    columns BYTEA NOT NULL,
    row_digests BYTEA NOT NULL,
    ids BYTEA,
    subjects BYTEA,
    groups BYTEA,
    key_id TEXT NOT NULL,
    shadow_of TEXT
);
CREATE INDEX predictions_by_time ON predictions (created, place);
CREATE INDEX predictions_of_context ON predictions (context);
CREATE INDEX predictions_shadow_of ON predictions (shadow_of) WHERE shadow_of IS NOT NULL;

CREATE TABLE outcomes (
    arrival BIGINT PRIMARY KEY CHECK (arrival > 0),
    place BIGINT NOT NULL UNIQUE,
    link BYTEA NOT NULL CHECK (length(link) = 32),
    request_id TEXT NOT NULL,
    row BIGINT NOT NULL CHECK (row >= 0),
    truth TEXT NOT NULL,
    observed_at BIGINT NOT NULL,
    received BIGINT NOT NULL,
    source TEXT,
    ascertainment TEXT NOT NULL CHECK (ascertainment IN ('routine', 'action', 'audit')),
    caller TEXT NOT NULL,
    contradicts BIGINT NOT NULL CHECK (contradicts IN (0, 1))
);
CREATE INDEX outcomes_of ON outcomes (request_id, row);

CREATE TABLE events (
    place BIGINT PRIMARY KEY,
    link BYTEA NOT NULL CHECK (length(link) = 32),
    created BIGINT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (detail::json IS NOT NULL)
);

CREATE INDEX events_by_time ON events (created, place);

CREATE TABLE sealed (
    request_id TEXT NOT NULL,
    row BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('id', 'subject', 'group', 'input')),
    subject BYTEA NOT NULL CHECK (length(subject) = 16),
    key_id TEXT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (request_id, row, kind)
);
CREATE INDEX sealed_of_subject ON sealed (subject);

CREATE TABLE subject_keys (
    request_id TEXT NOT NULL,
    subject BYTEA NOT NULL CHECK (length(subject) = 16),
    key_id TEXT NOT NULL,
    wrapped BYTEA NOT NULL,
    PRIMARY KEY (request_id, subject)
);
CREATE INDEX subject_keys_of_subject ON subject_keys (subject);

CREATE TABLE replies (
    caller BYTEA PRIMARY KEY,
    owner TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    reserved BIGINT NOT NULL,
    content BYTEA
);
CREATE INDEX replies_by_time ON replies (reserved);

CREATE TABLE anchors (
    stream BIGINT NOT NULL REFERENCES streams (number),
    sequence BIGINT NOT NULL,
    name TEXT NOT NULL,
    link BYTEA NOT NULL,
    created BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (stream, sequence)
);

-- Working state of monitors: no part of the record.
CREATE TABLE states (
    name TEXT PRIMARY KEY,
    content TEXT NOT NULL CHECK (content::json IS NOT NULL)
);

CREATE TABLE probe (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    checked BIGINT NOT NULL
);

-- Numbers of outcomes are used once, those of deleted ones too.
CREATE TABLE arrivals (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL
);
INSERT INTO arrivals VALUES (1, 0);

-- Places that a transaction deletes, while it does: the only way past the triggers below.
CREATE TABLE pruning (
    first BIGINT NOT NULL,
    last BIGINT NOT NULL
);

-- What the schema is; SQLite keeps this number in the head of its file.
CREATE TABLE schema_version (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    number BIGINT NOT NULL
);
INSERT INTO schema_version VALUES (1, 0);

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only';
END $$;

CREATE FUNCTION entry_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pruning WHERE OLD.place BETWEEN first AND last) THEN
        RAISE EXCEPTION 'append-only';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION content_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pruning) THEN
        RAISE EXCEPTION 'append-only';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER predictions_unchanged BEFORE UPDATE ON predictions FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER predictions_kept BEFORE DELETE ON predictions FOR EACH ROW EXECUTE FUNCTION entry_kept();
CREATE TRIGGER predictions_whole BEFORE TRUNCATE ON predictions FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TRIGGER outcomes_unchanged BEFORE UPDATE ON outcomes FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER outcomes_kept BEFORE DELETE ON outcomes FOR EACH ROW EXECUTE FUNCTION entry_kept();
CREATE TRIGGER outcomes_whole BEFORE TRUNCATE ON outcomes FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TRIGGER events_unchanged BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER events_kept BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION entry_kept();
CREATE TRIGGER events_whole BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TRIGGER contexts_unchanged BEFORE UPDATE ON contexts FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER contexts_kept BEFORE DELETE ON contexts FOR EACH ROW EXECUTE FUNCTION content_kept();
CREATE TRIGGER contexts_whole BEFORE TRUNCATE ON contexts FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TRIGGER documents_unchanged BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER documents_kept BEFORE DELETE ON documents FOR EACH ROW EXECUTE FUNCTION content_kept();
CREATE TRIGGER documents_whole BEFORE TRUNCATE ON documents FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TRIGGER streams_unchanged BEFORE UPDATE ON streams FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER streams_kept BEFORE DELETE ON streams FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER streams_whole BEFORE TRUNCATE ON streams FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TRIGGER anchors_unchanged BEFORE UPDATE ON anchors FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER anchors_kept BEFORE DELETE ON anchors FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER anchors_whole BEFORE TRUNCATE ON anchors FOR EACH STATEMENT EXECUTE FUNCTION append_only();
