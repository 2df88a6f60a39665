-- What the register says of days that are derived already has changed: they are derived again, as after late
-- readings. Of the open months only; older ones are closed, and a person decides about them.

CREATE FUNCTION touch_registered_days(uc_ids bigint[], spans daterange[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    INSERT INTO touched_day (meter_id, day)
    SELECT DISTINCT i.meter_id, o.day
    FROM unnest(uc_ids, spans) AS c (uc_id, span)
    JOIN uc_day_outcome o ON o.uc_id = c.uc_id AND o.day <@ c.span
        AND o.day >= (date_trunc('month', now()) - INTERVAL '1 month')::date
    JOIN point p ON p.uc_id = o.uc_id
    JOIN installation i ON i.point_id = p.id AND i.role = 'main'
        AND i.valid && tstzrange(market_day_start(o.day), market_day_start(o.day + 1))
$$;

CREATE FUNCTION touch_days_of_uc() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM touch_registered_days(array_agg(uc_id), array_agg(valid)) FROM changed;
    RETURN NULL;
END $$;

CREATE FUNCTION touch_days_of_point() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM touch_registered_days(array_agg(p.uc_id), array_agg(c.valid))
    FROM changed c JOIN point p ON p.id = c.point_id;
    RETURN NULL;
END $$;

CREATE FUNCTION touch_days_of_installation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Market days that an installation touches: a day more on each side costs nothing but a look.
    PERFORM touch_registered_days(
        array_agg(p.uc_id), array_agg(daterange(lower(c.valid)::date - 1, upper(c.valid)::date + 1)))
    FROM changed c JOIN point p ON p.id = c.point_id;
    RETURN NULL;
END $$;

DO $$
DECLARE
    watched text[] := ARRAY[
        'uc_musd:uc', 'uc_status:uc', 'uc_estimation:uc', 'uc_contract:uc', 'point_loss:point',
        'installation:installation'];
    pair text;
    event text;
BEGIN
    FOREACH pair IN ARRAY watched LOOP
        FOREACH event IN ARRAY ARRAY['INSERT:NEW', 'DELETE:OLD', 'UPDATE:OLD', 'UPDATE:NEW'] LOOP
            EXECUTE format(
                'CREATE TRIGGER touch_days_%s AFTER %s ON %I REFERENCING %s TABLE AS changed '
                'FOR EACH STATEMENT EXECUTE FUNCTION touch_days_of_%s()',
                lower(replace(event, ':', '_')), split_part(event, ':', 1), split_part(pair, ':', 1),
                split_part(event, ':', 2), split_part(pair, ':', 2));
        END LOOP;
    END LOOP;
END $$;

-- The few submissions made under a MUSD that zeroed hours: looked at each minute for a MUSD that changed since.
CREATE INDEX submission_event_musd ON submission_event (submission_id) WHERE detail ? 'musd_kw';
