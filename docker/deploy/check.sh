#!/bin/bash
# Lint the scripts and units of this folder with what is installed: shellcheck, systemd-analyze.
set -euo pipefail
cd "$(dirname "$0")"
scripts=(./*.sh slurm/*)
for script in "${scripts[@]}"; do
    bash -n "$script"
done
if command -v shellcheck > /dev/null; then
    shellcheck -s bash "${scripts[@]}"
else
    echo "shellcheck is not installed: scripts were only parsed"
fi
if command -v systemd-analyze > /dev/null; then
    units="$(mktemp -d)"
    trap 'rm -r "$units"' EXIT
    for unit in systemd/*.service; do
        # the programs are where they will be installed, and not here
        sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "$unit" > "$units/$(basename "$unit")"
    done
    systemd-analyze verify "$units"/*.service
else
    echo "systemd-analyze is not installed: units were not verified"
fi
