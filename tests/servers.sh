# Starts and ends the servers that external checks and benchmarks run against. Sourced by bash; wants $work, a directory of one's own.

postgres_bin() {
    local place
    for place in /usr/lib/postgresql/15/bin /usr/local/pgsql/bin; do
        if [ -x "$place/postgres" ]; then
            echo "$place"
            return 0
        fi
    done
    return 1
}

# Installs PostgreSQL 15 and its clients when they are missing. Says why when it cannot.
install_postgres() {
    postgres_bin >/dev/null && command -v psql >/dev/null && command -v pgbench >/dev/null && return 0
    [ "$(id -u)" = 0 ] || { echo "not root, so apt-get cannot install postgresql-15"; return 1; }
    command -v apt-get >/dev/null || { echo "no apt-get to install postgresql-15 with"; return 1; }
    mkdir -p /etc/postgresql-common
    # No cluster of the package's own: only the one that is started here runs.
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    export DEBIAN_FRONTEND=noninteractive
    { timeout 120 apt-get update && timeout 300 apt-get install -y --no-install-recommends postgresql-15 postgresql-client-15; } >"$work/apt.log" 2>&1
    postgres_bin >/dev/null || { echo "apt-get did not install postgresql-15 (see $work/apt.log)"; return 1; }
}

# PostgreSQL refuses to run as root: then its own user runs it.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

free_port() {
    local port
    for _ in $(seq 50); do
        port=$((20000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return 0; }
    done
    return 1
}

# Starts PostgreSQL without fsync, on a socket in its directory and on a free port; sets postgres_pid, postgres_port, postgres_url.
start_postgres() {
    local bin directory="$work/postgres"
    bin=$(postgres_bin) || return 1
    mkdir -p "$directory"
    chmod 755 "$work"
    if [ "$(id -u)" = 0 ]; then chown postgres "$directory"; fi
    as_postgres "$bin/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >"$work/initdb.log" 2>&1 || return 1
    postgres_port=$(free_port) || return 1
    (cd / && as_postgres "$bin/postgres" -D "$directory/data" -p "$postgres_port" -k "$directory" -c listen_addresses=127.0.0.1 -c fsync=off \
        -c max_connections=200 "$@" >"$work/postgres.log" 2>&1) &
    for _ in $(seq 100); do
        if "$bin/pg_isready" -q -h 127.0.0.1 -p "$postgres_port"; then
            postgres_pid=$(head -1 "$directory/data/postmaster.pid")
            postgres_url="postgresql://postgres@127.0.0.1:$postgres_port/postgres"
            return 0
        fi
        sleep 0.2
    done
    return 1
}

stop_postgres() {
    [ -n "${postgres_pid:-}" ] || return 0
    kill -INT "$postgres_pid" 2>/dev/null
    wait_gone "$postgres_pid" 100 || kill -QUIT "$postgres_pid" 2>/dev/null
    postgres_pid=
}

# Starts `toroid dev` with these further arguments on a free port; sets toroid_pid, toroid_port, toroid_url.
start_toroid() {
    TOROID_LOG=${TOROID_LOG:-warn} "$toroid_bin" dev --listen 127.0.0.1:0 --metrics off "$@" >"$work/toroid.out" 2>"$work/toroid.log" </dev/null &
    toroid_pid=$!
    for _ in $(seq 300); do
        if grep -q '^ready: ' "$work/toroid.out"; then
            toroid_port=$(sed -n 's|^ready: postgresql://127.0.0.1:\([0-9]*\)/.*|\1|p' "$work/toroid.out")
            toroid_url="postgresql://postgres@127.0.0.1:$toroid_port/toroid"
            return 0
        fi
        kill -0 "$toroid_pid" 2>/dev/null || break
        sleep 0.1
    done
    return 1
}

stop_toroid() {
    [ -n "${toroid_pid:-}" ] || return 0
    kill -TERM "$toroid_pid" 2>/dev/null
    wait_gone "$toroid_pid" 100 || kill -KILL "$toroid_pid" 2>/dev/null
    wait "$toroid_pid" 2>/dev/null
    toroid_pid=
}

# Waits for the end of a process, so many tenths of a second.
wait_gone() {
    local _
    for _ in $(seq "$2"); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}
