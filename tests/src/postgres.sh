# Ends the shared server ($1) once no test uses it, and removes its directory ($2). $3 has the locks.
while :; do
    flock -x "$3/users" true
    sleep 1
    exec 9>"$3/turn"
    flock 9
    if flock -n -x "$3/users" true; then
        kill -QUIT "$1"
        while kill -0 "$1"; do sleep 0.1; done
        rm -rf "$2" "$3/dir"
        exit
    fi
    exec 9>&-
done
