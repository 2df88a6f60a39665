-- Channels of phase voltages and currents (quantities 17 to 22, and our own 81 to 86) are few among the days that
-- are stored: rules find those of a meter without looking at the others.
CREATE INDEX reading_day_phase ON reading_day (meter_id, day)
    WHERE quantity_code BETWEEN 17 AND 22 OR quantity_code BETWEEN 81 AND 86;
