-- What is due at once is due by this server's clock at the latest: a process whose clock runs ahead would otherwise put a
-- payment or a refund off by as much as its clock is wrong. A clock that is behind makes nothing wait.
CREATE FUNCTION due_now(caller_ms bigint) RETURNS bigint LANGUAGE sql VOLATILE AS
    $$ SELECT least(caller_ms, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) $$;
