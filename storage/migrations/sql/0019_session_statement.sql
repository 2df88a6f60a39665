-- What a session states about its readings: columns with unit, scaler and constant, lengths of intervals, what
-- was decided about doubtful values, what was asked for rows and what came (protocols.acquisition.Statement).
ALTER TABLE session ADD COLUMN statement jsonb;
