#!/usr/bin/env bash
# A cluster map of two nodes on this machine, on PORT and the one behind it: starts what does not run, and joins them.
#
# usage: scripts/join_cluster.sh [PORT]     (8080)
#
# scripts/cluster_manager.sh has more, and says where the data is; its stop-all ends both.
set -euo pipefail
exec "$(dirname "$0")/cluster_manager.sh" start-cluster 2 "$@"
