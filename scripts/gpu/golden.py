"""Stage 2: the test programs on the device."""
import re

# Program and number of processes that share its tests (GoogleTest's own sharding), longest first.
PROGRAMS = [("models_test", 3), ("ptq_test", 4), ("train_test", 3), ("eval_test", 3), ("attention_test", 2),
            ("nn_test", 1), ("optimizers_test", 1), ("taps_test", 1), ("quant_test", 1), ("batches_test", 1)]
ALONE = 12  # failed tests that run again by themselves: one that then passes fell to another's failure

RUN = re.compile(r"^\[ RUN      \] (\S+)$")
END = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] ([^\s,]+)(?:, where .*)? \((\d+) ms\)$")


def read_tests(output):
    """Name -> {"verdict", "ms", "message"} of each test that began; one that did not end is "cut short"."""
    tests, name, message = {}, None, []
    for line in output.splitlines():
        if begun := RUN.match(line):
            name, message = begun[1], []
            tests[name] = {"verdict": "cut short", "message": ""}
        elif (ended := END.match(line)) and ended[2] == name:
            tests[name] = {"verdict": ended[1].lower(), "ms": int(ended[3]), "message": " | ".join(message)[:400]}
            name = None
        elif name and line.strip() and len(message) < 12:
            message.append(line.strip())
            tests[name]["message"] = " | ".join(message)[:400]
    return tests


def run_shard(check, program, shard, shards, filter_="*"):
    name = f"{program} {shard + 1}/{shards}" if filter_ == "*" else f"{program} {filter_}"
    status, output, _ = check.run(
        name, [check.program(program), f"--gtest_filter={filter_}", "--gtest_color=no"],
        {"QUENCH_TEST_DEVICE": check.device, "OMP_NUM_THREADS": "1",
         "GTEST_SHARD_INDEX": str(shard), "GTEST_TOTAL_SHARDS": str(shards)})
    tests = read_tests(output)
    for test in tests.values():
        test["program"] = program
        if test["verdict"] == "cut short":
            test["message"] = (f"exit status {status}: " if status is not None else "no time was left: ") + test["message"]
    problem = None
    if not tests and status == 0:
        pass  # fewer tests than processes
    elif not tests:  # it did not even start
        problem = f"{program}: {'no time was left' if status is None else (output.strip().splitlines() or ['no output'])[-1]}"
    elif status is None or (status != 0 and all(t["verdict"] in ("ok", "skipped") for t in tests.values())):
        problem = f"{name}: {'no time was left' if status is None else f'exit status {status}'} after {len(tests)} tests"
    return tests, problem


def golden(check, result):
    tasks = [lambda p=program, i=shard, n=shards: run_shard(check, p, i, n)
             for program, shards in PROGRAMS for shard in range(shards)]
    tests, problems = {}, []
    for found, problem in check.in_parallel(tasks, check.cores):
        tests.update(found)
        problems += [problem] if problem else []
    bad = {name: test for name, test in tests.items() if test["verdict"] in ("failed", "cut short")}

    def again(name, test):
        found, _ = run_shard(check, test["program"], 0, 1, name)
        test["alone"] = found[name]["verdict"] if name in found else "not run"
        if test["alone"] == "failed":
            test["message"] = found[name]["message"]
    check.in_parallel([lambda n=name, t=test: again(n, t) for name, test in list(bad.items())[:ALONE]],
                      min(check.cores, 4))

    count = {verdict: sum(t["verdict"] == verdict for t in tests.values())
             for verdict in ("ok", "failed", "cut short", "skipped")}
    slow = sorted(tests, key=lambda name: -tests[name].get("ms", 0))[:10]
    result.update(count=count, problems=problems, failures=bad,
                  skipped={name: t["message"] for name, t in tests.items() if t["verdict"] == "skipped"},
                  slowest_ms={name: tests[name].get("ms") for name in slow})
    result["lines"] = [f"{name}: {t['verdict']}" + (f" (alone: {t['alone']})" if "alone" in t else "") +
                       f": {t['message']}" for name, t in bad.items()] + list(dict.fromkeys(problems))
    result["verdict"] = "FAIL" if bad or problems or not tests else "pass"
    result["headline"] = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
