#!/usr/bin/env bash
# Flink on this machine: a JobManager, two TaskManagers, Beam's job server, and a pool of Python workers.
#
#   pipeline/engines/flink.sh start|status|stop|fetch
#
# It needs the project's .venv (or VENV), Java 17, and Maven for the job server's jar; BEAM_JOB_SERVER_JAR names another
# one. What it fetches, and the logs, are in .flink. The pool has only the installed package. `fetch` only fetches Flink.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(realpath --no-symlinks "${VENV:-.venv}")/bin/python home=$(realpath --canonicalize-missing .flink)
processes=(jobmanager taskmanager-1 taskmanager-2 worker-pool job-server)
fail() { echo "flink.sh: $*" >&2; exit 1; }

beam=$("$python" -c 'from importlib.metadata import version; print(version("apache-beam"))') ||
  fail "$python has no Beam; make setup installs it"
case $beam in
  2.60.0) flink=1.18.1 sha256=369ce11ab33e5e15cdd349db2f5412dcc2fad163b6a87aa93b927a3631bcca7f ;;
  2.77.0) flink=1.20.1 sha256=be28293619b1d7b04c970b947133ae8d0ca86681f23694be063b3659ea69bb79 ;;
  *) fail "there is no version of Flink here for Beam $beam" ;;
esac
distribution=$home/flink-$flink
jar=${BEAM_JOB_SERVER_JAR:-$home/beam-runners-flink-${flink%.*}-job-server-$beam.jar}

fetch() {
  if [ ! -e "$distribution" ]; then
    mkdir -p "$home"
    echo "Fetching Flink $flink, 230 MB, once."
    local unpacked=$home/unpacked
    rm -rf "$unpacked" && mkdir "$unpacked"
    echo "apache-flink-libraries==$flink --hash=sha256:$sha256" >"$unpacked/requirement"
    "$python" -m pip download --quiet --no-deps --no-build-isolation --require-hashes --dest "$unpacked" \
      --requirement "$unpacked/requirement" || fail "Flink could not be fetched; see pip's message above"
    tar --extract --gzip --directory "$unpacked" --strip-components=2 --file "$unpacked"/*.tar.gz --wildcards '*/deps/' ||
      fail "Flink could not be unpacked; see tar's message above"
    rm "$unpacked"/*.tar.gz
    mv "$unpacked" "$distribution"
  fi
}

fetch_job_server() {
  if [ ! -e "$jar" ]; then
    [ -z "${BEAM_JOB_SERVER_JAR:-}" ] || fail "BEAM_JOB_SERVER_JAR=$jar: there is no such file"
    command -v mvn >/dev/null || fail "Maven is missing: install it, or set BEAM_JOB_SERVER_JAR to the job server's jar"
    mvn --quiet --batch-mode --update-snapshots --strict-checksums dependency:copy -DoutputDirectory="$home" \
      -Dartifact="org.apache.beam:beam-runners-flink-${flink%.*}-job-server:$beam" >"$home/maven.log" 2>&1 ||
      fail "Maven could not fetch ${jar##*/}: see .flink/maven.log, or set BEAM_JOB_SERVER_JAR to a jar that you have"
  fi
}

install_package() { # from a copy: a build in place would keep modules that are gone
  rm -rf "$home/source" "$home/site" && mkdir "$home/source"
  cp -R pipeline components data serving pyproject.toml README.md LICENSE "$home/source"
  "$python" -m pip install --quiet --no-deps --no-build-isolation --no-index --target "$home/site" "$home/source" ||
    fail "the package could not be built; see pip's message above"
}

launch() { # NAME COMMAND...: starts a process of its own group
  local name=$1
  shift
  (cd "$home/work" && exec setsid "$@" >"$home/$name.log" 2>&1 </dev/null) &
  echo $! >"$home/$name.pid"
}

flink_process() { # NAME PARAMETERS CLASS: Flink computes the sizes of its memory, as in its own start scripts
  local sizes
  mapfile -t sizes < <(java -cp "$distribution/lib/*:$distribution/bin/*" \
    org.apache.flink.runtime.util.bash.BashJavaUtils "$2" --configDir "$home/conf" 2>"$home/$1.log" |
    sed -n 's/^BASH_JAVA_UTILS_EXEC_RESULT://p')
  [ ${#sizes[@]} = 2 ] || { stop; fail "$(command -v java) cannot run Flink $flink, which wants Java 17; see .flink/$1.log"; }
  # shellcheck disable=SC2086
  launch "$1" java -Dlog4j2.level=INFO -cp "$distribution/lib/*" ${sizes[0]} --add-opens=java.base/java.lang=ALL-UNNAMED \
    --add-opens=java.base/java.util=ALL-UNNAMED "$3" --configDir "$home/conf" ${sizes[1]}
}

# Its folder shows that the number is not that of another process by now. A zombie has none.
alive() { [ "$(readlink "/proc/$(cat "$home/$1.pid" 2>/dev/null)/cwd" 2>/dev/null)" = "$home/work" ]; }
answers() { (exec 3<>"/dev/tcp/localhost/$1") 2>/dev/null; }
taskmanagers() {
  "$python" -c 'import json, urllib.request as request
print(json.load(request.urlopen("http://localhost:8081/overview", timeout=5))["taskmanagers"])' 2>/dev/null || echo 0
}

start() {
  command -v java >/dev/null || fail "Java is missing: install Java 17 (Debian: apt-get install openjdk-17-jre-headless)"
  for name in "${processes[@]}"; do ! alive "$name" || fail "it runs already; end it with pipeline/engines/flink.sh stop"; done
  for port in 8081 8099 50000; do ! answers "$port" || fail "port $port is in use by another program"; done
  mkdir -p "$home/conf" "$home/work"
  fetch
  fetch_job_server
  install_package
  cat >"$home/conf/flink-conf.yaml" <<CONF
jobmanager.rpc.address: localhost
jobmanager.bind-host: localhost
taskmanager.host: localhost
taskmanager.bind-host: localhost
rest.address: localhost
rest.bind-address: localhost
jobmanager.memory.process.size: 1g
taskmanager.memory.process.size: 1500m
taskmanager.numberOfTaskSlots: 2
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 3
CONF
  flink_process jobmanager GET_JM_RESOURCE_PARAMS org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint
  for number in 1 2; do
    flink_process "taskmanager-$number" GET_TM_RESOURCE_PARAMS org.apache.flink.runtime.taskexecutor.TaskManagerRunner
  done
  # The pool starts `python`: the first one on the PATH.
  launch worker-pool env PATH="${python%/*}:$PATH" PYTHONPATH="$home/site" TF_USE_LEGACY_KERAS=1 \
    "$python" -m apache_beam.runners.worker.worker_pool_main --service_port=50000
  launch job-server java -jar "$jar" --flink-master=localhost:8081 --job-port=8099 --artifact-port=8098 --expansion-port=0
  for _ in $(seq 60); do
    for name in "${processes[@]}"; do alive "$name" || { stop; fail "$name ended; see .flink/$name.log"; }; done
    if answers 8099 && answers 50000 && [ "$(taskmanagers)" = 2 ]; then
      status || { stop; fail "Flink did not stay up; see the logs in .flink"; }
      echo "python -m pipeline.run_local --set beam.engine=flink beam.job_server=localhost:8099" \
        "beam.environment=external beam.worker_pool=localhost:50000 beam.parallelism=2"
      return
    fi
    sleep 1
  done
  stop
  fail "Flink did not start; see the logs in .flink"
}

status() {
  local missing=0
  for name in "${processes[@]}"; do
    if alive "$name"; then echo "$name runs, process $(cat "$home/$name.pid")"; else echo "$name does not run"; missing=1; fi
  done
  echo "Flink $flink has $(taskmanagers) TaskManagers: http://localhost:8081"
  return $missing
}

stop() {
  for name in "${processes[@]}"; do
    # A negative number is a process group: the pool's workers end with the pool.
    ! alive "$name" || kill -KILL -- "-$(cat "$home/$name.pid")" 2>/dev/null || true
    while alive "$name"; do sleep 0.1; done
    rm -f "$home/$name.pid"
  done
}

case ${1:-} in
  start | status | stop | fetch) "$1" ;;
  *) fail "usage: flink.sh start|status|stop|fetch" ;;
esac
