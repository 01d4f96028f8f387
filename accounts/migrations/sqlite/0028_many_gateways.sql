-- For many gateways on one store. Sessions that others completed because their gateway was silent: it looks for them
-- with each sign of life, and they are few.
CREATE INDEX sessions_completed_by_others ON sessions (gateway_id) WHERE gateway_id IS NOT NULL AND ended_at IS NOT NULL;

-- Each gateway looks daily for sessions whose time is over.
CREATE INDEX sessions_by_end ON sessions (ended_at) WHERE ended_at IS NOT NULL;
