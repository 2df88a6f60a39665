-- An approval that nobody gave while it could change what is sent has an end: it lapsed, with the reason.

ALTER TABLE decision DROP CONSTRAINT decision_state_check;
ALTER TABLE decision ADD CONSTRAINT decision_state_check
    CHECK (state IN ('waiting', 'in_force', 'refused', 'undone', 'lapsed'));
