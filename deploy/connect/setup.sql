-- What a register must have that is to be read so: `wal_level = logical` in postgresql.conf, and this, by its DBA.
-- Whole rows in the log, so that a deletion says whom it deletes and under which revision, and a long value that did
-- not change is there too.
ALTER TABLE public.licences REPLICA IDENTITY FULL;
CREATE PUBLICATION exchange FOR TABLE public.licences;
GRANT USAGE ON SCHEMA public TO exchange_reader;
GRANT SELECT ON public.licences TO exchange_reader;  -- exchange_reader: a user with LOGIN and REPLICATION
