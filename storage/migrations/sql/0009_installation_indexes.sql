-- The collector looks installations up by meter and the derived layers by point, a few thousand at a time. The
-- exclusion constraints' own indexes are over ranges and serve neither.
CREATE INDEX installation_point ON installation (point_id);
CREATE INDEX installation_meter ON installation (meter_id);
