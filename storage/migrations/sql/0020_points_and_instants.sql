-- Losses by instant, several points of a UC with sign and share, and days between two meters that are derived again.

ALTER TABLE point_loss DROP CONSTRAINT point_loss_valid_check;
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = 'point_loss'::regclass AND contype = 'x' LOOP
        EXECUTE format('ALTER TABLE point_loss DROP CONSTRAINT %I', name);
    END LOOP;
END $$;
ALTER TABLE point_loss
    ALTER COLUMN valid TYPE tstzrange USING tstzrange(market_day_start(lower(valid)), market_day_start(upper(valid))),
    ADD CHECK (NOT isempty(valid)),
    ADD EXCLUDE USING gist (int8range(point_id, point_id, '[]') WITH &&, valid WITH &&)
        WHERE (kind = 'transformation'),
    ADD EXCLUDE USING gist (int8range(point_id, point_id, '[]') WITH &&, valid WITH &&) WHERE (kind = 'line');

-- A UC's energy is the sum over its points of sign x share x energy.
ALTER TABLE point DROP CONSTRAINT point_uc_id_key;
CREATE INDEX point_uc ON point (uc_id);
ALTER TABLE point
    ADD COLUMN sign smallint NOT NULL DEFAULT 1 CHECK (sign IN (1, -1)),
    ADD COLUMN share_num bigint NOT NULL DEFAULT 1 CHECK (share_num > 0),
    ADD COLUMN share_den bigint NOT NULL DEFAULT 1 CHECK (share_den > 0);

-- Any main meter of the UC stands for a day on which none was there: what is derived is the UC's day.
CREATE OR REPLACE FUNCTION touch_registered_days(uc_ids bigint[], spans daterange[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    INSERT INTO touched_day (meter_id, day)
    SELECT DISTINCT m.meter_id, o.day
    FROM unnest(uc_ids, spans) AS c (uc_id, span)
    JOIN uc_day_outcome o ON o.uc_id = c.uc_id AND o.day <@ c.span
        AND o.day >= (date_trunc('month', now()) - INTERVAL '1 month')::date
    CROSS JOIN LATERAL (
        SELECT i.meter_id FROM point p JOIN installation i ON i.point_id = p.id AND i.role = 'main'
        WHERE p.uc_id = o.uc_id
        ORDER BY i.valid && tstzrange(market_day_start(o.day), market_day_start(o.day + 1)) DESC, i.id
        LIMIT 1
    ) m
$$;

CREATE FUNCTION touch_days_of_loss() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM touch_registered_days(
        array_agg(p.uc_id), array_agg(daterange(market_day_of(lower(c.valid)), market_day_of(upper(c.valid)), '[]')))
    FROM changed c JOIN point p ON p.id = c.point_id;
    RETURN NULL;
END $$;

-- The days between the meter before and this one belong to the change as well.
CREATE OR REPLACE FUNCTION touch_days_of_installation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM touch_registered_days(
        array_agg(p.uc_id),
        array_agg(daterange(
            coalesce(
                (SELECT max(upper(b.valid)) FROM installation b
                 WHERE b.point_id = c.point_id AND b.role = c.role AND upper(b.valid) <= lower(c.valid)),
                lower(c.valid))::date - 1,
            coalesce(
                (SELECT min(lower(b.valid)) FROM installation b
                 WHERE b.point_id = c.point_id AND b.role = c.role AND lower(b.valid) >= upper(c.valid)),
                upper(c.valid))::date + 1)))
    FROM changed c JOIN point p ON p.id = c.point_id;
    RETURN NULL;
END $$;

CREATE FUNCTION touch_days_of_moved_point() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM touch_registered_days(array_agg(uc_id), array_agg(daterange(NULL, NULL))) FROM changed;
    RETURN NULL;
END $$;

DO $$
DECLARE
    event text;
BEGIN
    FOREACH event IN ARRAY ARRAY['INSERT:NEW', 'DELETE:OLD', 'UPDATE:OLD', 'UPDATE:NEW'] LOOP
        EXECUTE format('DROP TRIGGER touch_days_%s ON point_loss', lower(replace(event, ':', '_')));
        EXECUTE format(
            'CREATE TRIGGER touch_days_%s AFTER %s ON point_loss REFERENCING %s TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION touch_days_of_loss()',
            lower(replace(event, ':', '_')), split_part(event, ':', 1), split_part(event, ':', 2));
    END LOOP;
    FOREACH event IN ARRAY ARRAY['UPDATE:OLD', 'UPDATE:NEW'] LOOP
        EXECUTE format(
            'CREATE TRIGGER touch_days_%s AFTER %s ON point REFERENCING %s TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION touch_days_of_moved_point()',
            lower(replace(event, ':', '_')), split_part(event, ':', 1), split_part(event, ':', 2));
    END LOOP;
END $$;
