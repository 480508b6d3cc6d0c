#cloud-boothook
#!/bin/sh
# Puts mapkeeper on a stock host and starts it, at every boot: user data of an EC2 instance, below 16 KiB.
# Fill in the two values and the configuration. Running it again changes nothing.
set -eu

URL=https://example.com/mapkeeper            # where the binary is: an object that this host may read
SHA256=0000000000000000000000000000000000000000000000000000000000000000

root=${MAPKEEPER_ROOT:-}
binary=$root/usr/bin/mapkeeper

is_right() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$SHA256" ]; }

# Replaces a file by what is read, at once or not at all, and only if it differs.
put() {
    mkdir -p "$(dirname "$1")"
    cat >"$1.new"
    chmod "$2" "$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

if ! is_right "$binary"; then
    mkdir -p "$(dirname "$binary")"
    curl --fail --silent --show-error --location --retry 10 --retry-all-errors --output "$binary.new" "$URL"
    is_right "$binary.new" || { rm "$binary.new"; echo "mapkeeper: $URL is not the file with sha256 $SHA256" >&2; exit 1; }
    chmod 0755 "$binary.new"
    mv "$binary.new" "$binary"
fi

put "$root/etc/mapkeeper/config.toml" 0644 <<'CONFIG'
[[mount]]
name = "mapfiles"
source = "s3://mapserver-bucket/maps"
path = "/srv/mapkeeper/mapfiles"

[container]
owner = "mapkeeper"
name = "mapserver"
image = "mapserver:8"
ports = ["8080:80"]
binds = ["/srv/mapkeeper/mapfiles:/mapfiles:ro"]

[container.probe]
url = "http://127.0.0.1:8080/?map=/mapfiles/health.map&SERVICE=WMS&REQUEST=GetCapabilities"
CONFIG

put "$root/etc/systemd/system/mapkeeper.service" 0644 <<'UNIT'
[Unit]
Description=Serves maps out of an S3 bucket
After=network-online.target docker.service
Wants=network-online.target
Before=ecs.service
StartLimitIntervalSec=0
ConditionPathExists=!/run/mapkeeper-bootstrap.failed
[Service]
Type=notify
ExecStart=/usr/bin/mapkeeper run
ExecReload=/usr/bin/mapkeeper config check
ExecReload=/bin/kill -HUP $MAINPID
RuntimeDirectory=mapkeeper
RuntimeDirectoryPreserve=restart
FileDescriptorStoreMax=128
WatchdogSec=30s
WatchdogSignal=SIGKILL
Restart=always
RestartSec=100ms
RestartPreventExitStatus=64
TimeoutStopSec=60s
KillMode=mixed
LimitCORE=0
NoNewPrivileges=yes
RestrictRealtime=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
[Install]
WantedBy=multi-user.target
UNIT

systemctl daemon-reload
# Not waited for: units of this boot are still being started.
systemctl enable --quiet mapkeeper.service
systemctl start --no-block mapkeeper.service
