# Process 1 of a test's namespace: makes the mounts private, says so, and waits for the pipe to close.
set -e
mount -t tmpfs none /run
mkdir /run/etc /run/lab
cp -a /etc/. /run/etc/
cp /usr/bin/ip /usr/bin/wg /run/lab/
mount --bind /run/etc /etc
rm -rf /etc/resolv.conf /etc/tacit
echo '# nothing yet' > /etc/resolv.conf
mount -t sysfs sysfs /sys
mount -t tmpfs none /sys/module

# A kernel that has WireGuard looks as if it had none: clients here are userspace programs.
cat > /run/lab/cover-ip <<'EOF'
#!/bin/sh
case "$*" in *"type wireguard"*) exit 2;; esac
exec /run/lab/ip "$@"
EOF

# gotatun 0.10.2 often dies when wg-quick marks its socket while the interface is up ("Address already in use"),
# so for gotatun alone the same mark is set a moment earlier, together with the keys.
cat > /run/lab/cover-wg <<'EOF'
#!/bin/sh
case "$1 $WG_QUICK_USERSPACE_IMPLEMENTATION" in "setconf "*gotatun)
    sed 's/^\[Interface\]$/&\nFwMark = 51820/' "$3" > /run/lab/marked.conf
    exec /run/lab/wg setconf "$2" /run/lab/marked.conf ;;
esac
exec /run/lab/wg "$@"
EOF

for tool in ip wg; do
    chmod +x "/run/lab/cover-$tool"
    mount --bind "/run/lab/cover-$tool" "/usr/bin/$tool"
done
/run/lab/ip link set lo up
echo made
exec cat
