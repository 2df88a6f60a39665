-- DLMS meters can move their clock by so many seconds (shift_time): neither a slow adjustment nor a set time.

ALTER TABLE clock_correction DROP CONSTRAINT clock_correction_method_check;
ALTER TABLE clock_correction ADD CONSTRAINT clock_correction_method_check
    CHECK (method IN ('micro_adjust', 'set', 'shift', 'none'));
