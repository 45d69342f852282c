"""txn, in both of its ways of reading."""

from tool import Etcdctl


def transactions(etcdctl: Etcdctl):
    """txn: each comparison, each operation, and what is refused."""
    etcdctl("put t/a 1")
    etcdctl("put t/b 2")
    comparisons = [
        'value("t/a") = "1"', 'value("t/a") != "1"', 'value("t/a") < "2"', 'value("t/a") > "2"',
        'mod("t/a") > "1"', 'mod("t/nothing") = "0"', 'create("t/a") != "0"', 'create("t/nothing") = "0"',
        'version("t/a") = "1"', 'version("t/a") > "1"', 'value("t/nothing") = ""',
    ]  # fmt: skip
    for comparison in comparisons:
        transaction(etcdctl, [comparison], ["get t/a"], ["get t/b"])
    operations = ["put t/c 3", "get --prefix t/", "del t/b --prev-kv", "put t/a 4 --prev-kv"]
    for form in "simple", "json", "fields", "protobuf", "table":
        etcdctl("put t/b 2", silent=True)
        transaction(etcdctl, ['value("t/b") = "2"'], operations, [], form)
    transaction(etcdctl, ['mod("t/a") = "0"', 'version("t/a") > "0"'], ["put t/a no"], ["get t/a", "del t/nothing"])
    transaction(etcdctl, [], ["put t/a unconditionally"], ["put t/a never"])
    transaction(etcdctl, [], [], [])
    transaction(etcdctl, [], ["put twice a", "put twice b"], [])
    transaction(etcdctl, [], ["put twice a", "del --prefix twi"], [])
    transaction(etcdctl, [], ["put t/x --ignore-value"], [])
    transaction(etcdctl, [], ["put t/a with-a-lease --lease=123"], [])
    transaction(etcdctl, [], [f"put many/{number} x" for number in range(129)], [])
    transaction(etcdctl, ["nonsense"], [], [])
    transaction(etcdctl, [], ["fly to/the/moon"], [])
    etcdctl("txn --interactive", input='value("t/a") = "unconditionally"\n\nput t/a typed\n\nget t/b\n\n')
    etcdctl("get --prefix t/ -w json")


def transaction(etcdctl: Etcdctl, compares: list[str], then: list[str], otherwise: list[str], form: str = "simple"):
    """Runs one transaction, as it is typed in."""
    parts = ["".join(line + "\n" for line in part) for part in (compares, then, otherwise)]
    etcdctl.formats("txn", (form,), input="\n".join(parts) + "\n")
