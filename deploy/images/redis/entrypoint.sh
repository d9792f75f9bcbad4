#!/bin/bash
# As in the official image, `redis-server ARGUMENTS…` starts with the modules and without protected mode.
set -euo pipefail
if [ "${1:-}" = redis-server ]; then
  shift
  set -- redis-server --loadmodule /usr/lib/redis/modules/rejson.so --protected-mode no "$@"
fi
exec "$@"
