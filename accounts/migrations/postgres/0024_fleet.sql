-- How the operator directs gateways that share the store.

-- Whether the gateway is to be left by its clients.
ALTER TABLE gateways ADD COLUMN draining BIGINT NOT NULL DEFAULT 0;

-- For how many sessions it is meant; empty if it does not say.
ALTER TABLE gateways ADD COLUMN capacity BIGINT;
