-- More of what later days are compared with. NULL: the day was derived before it was kept.
ALTER TABLE uc_day_shape
    ADD longest_run smallint,               -- slots of the longest run of equal counts
    ADD marks bigint[],                     -- fingerprints of the eighths of the day; 0: none
    ADD reactive_ratio double precision;    -- reactive count per active count; NULL also where not known
