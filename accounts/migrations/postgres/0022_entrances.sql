-- Where devices connect to each gateway, for the sites of the others to offer; empty while it runs nowhere or does not say.

ALTER TABLE gateways ADD COLUMN region TEXT;

ALTER TABLE gateways ADD COLUMN public_key BYTEA CHECK (length(public_key) = 32);

ALTER TABLE gateways ADD COLUMN endpoint TEXT;

ALTER TABLE gateways ADD COLUMN dns TEXT;

ALTER TABLE gateways ADD COLUMN mtu BIGINT;
