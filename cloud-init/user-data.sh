#!/bin/sh
# Puts mapkeeper on a stock host, at every boot; running it again changes nothing. Printed by `mapkeeper user-data`.
set -eu

URL='@URL@'
SHA256=@SHA256@

root=${BOOT_ROOT:-}
binary=$root/usr/bin/mapkeeper

is_right() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$SHA256" ]; }

# The gate first: where anything below fails, ECS starts no task on an empty directory.
gate=$root/etc/systemd/system/ecs.service.d/10-mapkeeper.conf
if [ ! -e "$gate" ]; then
    mkdir -p "$(dirname "$gate")"
    printf '%s\n' '[Unit]' 'Wants=mapkeeper.service' 'After=mapkeeper.service' 'StartLimitIntervalSec=0' '[Service]' \
        'ExecStartPre=/usr/bin/mapkeeper wait --timeout 60s' 'Restart=on-failure' 'RestartSec=10s' >"$gate.new"
    mv "$gate.new" "$gate"
    systemctl daemon-reload
fi

if ! is_right "$binary"; then
    mkdir -p "$(dirname "$binary")"
    curl --fail --silent --show-error --location --retry 10 --retry-all-errors --output "$binary.new" "$URL"
    is_right "$binary.new" || { rm "$binary.new"; echo "mapkeeper: $URL is not the file with sha256 $SHA256" >&2; exit 1; }
    chmod 0755 "$binary.new"
    mv "$binary.new" "$binary"
fi

config=$(mktemp)
trap 'rm -f "$config"' EXIT
cat >"$config" <<'MAPKEEPER_CONFIG_ENDS'
@CONFIG@
MAPKEEPER_CONFIG_ENDS
"$binary" bootstrap --root "${root:-/}" --from "$config"
