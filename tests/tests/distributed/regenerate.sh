#!/usr/bin/env bash
# Writes answers.txt anew from PostgreSQL 15: one statement of queries.sql after the other in a private server on a socket.
set -eu
cd "$(dirname "$0")"
bin=/usr/lib/postgresql/15/bin
dir=$(mktemp -d); chown postgres "$dir"
as() { su postgres -s /bin/bash -c "$1"; }
as "$bin/initdb -D $dir/data -E UTF8 --locale=C -A trust" >/dev/null
as "$bin/pg_ctl -D $dir/data -o '-k $dir -c listen_addresses= -c timezone=UTC' -w start" >/dev/null
trap 'as "$bin/pg_ctl -D $dir/data -m immediate stop" >/dev/null; rm -rf "$dir"' EXIT
ask() { psql -h "$dir" -U postgres -d postgres -X -q -At -v VERBOSITY=sqlstate "$@" 2>&1; }
ask -c 'select 1' >/dev/null
: > answers.txt
while IFS= read -r line; do
    case "$line" in ''|--*) continue ;; esac
    statement=$(printf '%s' "$line" | sed 's,/\*,,g; s,\*/,,g; s,;$,,')
    case "$line" in
        create*|insert*) ask -c "$line" ;;
        *) printf '> %s\n' "$statement" >> answers.txt; ask -v VERBOSITY=default -c "$line" | sed -E '/^(LINE|HINT|DETAIL| *\^)/d' > "$dir/out" || true
           if grep -q '^ERROR:' "$dir/out"; then
               state=$(ask -c "$line" | sed -n 's/^ERROR:  //p')
               sed -n "s/^ERROR:  /ERROR $state: /p" "$dir/out" >> answers.txt
           else cat "$dir/out" >> answers.txt; fi ;;
    esac
done < queries.sql
