#!/bin/bash
# Does what the stack uses of the official image: MYSQL_ROOT_PASSWORD, /docker-entrypoint-initdb.d/*.sql, arguments for mysqld.
set -euo pipefail
[ "${1:-}" = mysqld ] && shift
data=/var/lib/mysql socket=/run/mysqld/mysqld.sock
common=(--no-defaults --user=mysql "--datadir=$data" "--socket=$socket" --pid-file=/run/mysqld/mysqld.pid --mysqlx=OFF --secure-file-priv=)
if [ ! -d "$data/mysql" ]; then
  chown mysql:mysql "$data"
  mysqld "${common[@]}" --initialize-insecure
  mysqld "${common[@]}" "$@" --skip-networking &
  server=$!
  for _ in $(seq 600); do
    mysqladmin --no-defaults "--socket=$socket" -uroot ping >/dev/null 2>&1 && break
    kill -0 "$server" || { echo "mysqld stopped while it was initialised; its messages stand above" >&2; exit 1; }
    sleep 0.1
  done
  root() { mysql --no-defaults "--socket=$socket" -uroot "$@"; }
  for file in /docker-entrypoint-initdb.d/*.sql; do [ -e "$file" ] && root <"$file"; done
  root -e "SET sql_log_bin = 0; CREATE USER root@'%' IDENTIFIED BY '${MYSQL_ROOT_PASSWORD:?}'; GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION; ALTER USER root@localhost IDENTIFIED BY '${MYSQL_ROOT_PASSWORD}';"
  kill "$server" && wait "$server"
fi
exec mysqld "${common[@]}" "$@"
