# Mounts what a Docker engine asks for and a namespace's own /sys lacks: control groups, of the version ($1) that the
# machine has.
set -e
if [ "$1" = 2 ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exit
fi
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
while read -r name hierarchy _ enabled; do
    case "$hierarchy $enabled" in "0 "* | *" 0" | *enabled) continue ;; esac
    mkdir "/sys/fs/cgroup/$name"
    mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name"
done < /proc/cgroups
sed -n 's/^[0-9]*:name=\([^:]*\):.*/\1/p' /proc/self/cgroup | while read -r name; do
    mkdir "/sys/fs/cgroup/$name"
    mount -t cgroup -o "none,name=$name" cgroup "/sys/fs/cgroup/$name"
done
