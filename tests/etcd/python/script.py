"""The Python client aetcd, with all that it has, and by its own messages what it has no calls for.

    script.py FOLDER ADDRESS...
"""

import asyncio
import sys

# The modules beside this one leave no compiled copies in the checkout.
sys.dont_write_bytecode = True

import keys
import leases
import maintenance
import users
import watches
from aetcd import Client
from told import Told

SCENARIOS = [
    keys.puts,
    keys.ranges,
    keys.deletes,
    keys.transactions,
    watches.watches,
    watches.streams,
    leases.leases,
    leases.locks,
    users.users,
    users.permissions,
    keys.compactions,
    maintenance.status,
    maintenance.alarms,
    maintenance.leadership,
    maintenance.members,
    users.nested,
]


async def main():
    _, *addresses = sys.argv[1:]
    clients = [Client(*address.split(":")) for address in addresses]
    told = Told()
    await maintenance.introduce(told, clients)
    for number, scenario in enumerate(SCENARIOS):
        print("==", scenario.__name__, flush=True)
        # Now a leader is asked, now a follower.
        first = number % len(clients)
        await scenario(told, *clients[first:], *clients[:first])
    for client in clients:
        await client.close()


asyncio.run(main())
