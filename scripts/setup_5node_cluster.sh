#!/usr/bin/env bash
# A cluster map of five nodes on this machine, on PORT and the four behind it: starts what does not run, and joins them.
#
# usage: scripts/setup_5node_cluster.sh [PORT]     (8080)
#
# scripts/cluster_manager.sh has more, and says where the data is; its stop-all ends all five.
set -euo pipefail
exec "$(dirname "$0")/cluster_manager.sh" start-cluster 5 "$@"
