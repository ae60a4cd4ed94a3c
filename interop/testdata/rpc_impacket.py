# Calls BackuprKey of a server on a TCP port by impacket's RPC runtime, in both
# transfer syntaxes and at several levels, and says what came of it. The server
# answers with the input reversed.
import struct
import sys

from impacket.dcerpc.v5 import bkrp, rpcrt, transport
from impacket.uuid import uuidtup_to_bin

port, user, password = sys.argv[1:]
SYNTAXES = {"ndr": ("8a885d04-1ceb-11c9-9fe8-08002b104860", "2.0"),
            "ndr64": ("71710533-beba-4937-8319-b5dbef9ccc36", "1.0")}
RESTORE = bkrp.BACKUPKEY_RESTORE_GUID


def bind(syntax, level, interface=bkrp.MSRPC_UUID_BKRP, password=password):
    t = transport.DCERPCTransportFactory("ncacn_ip_tcp:127.0.0.1[%s]" % port)
    t.set_credentials(user, password, "BKRP")
    dce = t.get_dce_rpc()
    dce.set_credentials(*t.get_credentials())
    if level > rpcrt.RPC_C_AUTHN_LEVEL_NONE:
        dce.set_auth_level(level)
    dce.connect()
    dce.bind(interface, transfer_syntax=SYNTAXES[syntax])
    return dce


def code(call):
    """The fault or status of a call as text."""
    try:
        call()
    except rpcrt.DCERPCException as e:
        return "0x%x" % e.get_error_code() if e.get_error_code() else str(e)
    return "none"


for syntax in SYNTAXES:
    dce = bind(syntax, rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY)
    for n in (0, 1, 64, 4280, 10000):
        data = bytes(i * 7 % 251 for i in range(n))
        if n == 0:
            print(syntax, 6, "call 0", code(lambda: bkrp.hBackuprKey(dce, RESTORE, bkrp.NULL)))
            continue
        answer = bkrp.hBackuprKey(dce, RESTORE, data)
        got = b"".join(answer["ppDataOut"])
        print(syntax, 6, "call", n, "ok" if got == data[::-1] and answer["pcbDataOut"] == n else "differs")

    def faulty(opnum, data):
        def call():
            dce.call(opnum, data)
            dce.recv()
        return call
    print(syntax, 6, "opnum", code(faulty(1, b"\0" * 32)))
    print(syntax, 6, "stub", code(faulty(0, b"\0" * 33)))
    # Megabytes, with the stub built by hand: impacket's NDR takes a minute.
    n = 1 << 20
    word = "<L" if syntax == "ndr" else "<Q"
    data = bytes(range(256)) * (n // 256)
    dce.call(0, RESTORE + struct.pack(word, n) + data + struct.pack("<LL", n, 0))
    answer = dce.recv()
    print(syntax, 6, "megabyte", "ok" if data[::-1] in answer and len(answer) - n in (16, 24) else "differs")
    # The connection outlives its faults.
    assert bkrp.hBackuprKey(dce, RESTORE, b"ab")["ppDataOut"] == [b"b", b"a"]

    for level in (5, 2, 1):
        weak = bind(syntax, level)
        for _ in range(2):
            print(syntax, level, code(lambda: bkrp.hBackuprKey(weak, RESTORE, b"x")))

try:
    dce = bind("ndr", 6, password="wrong")
    print("wrong password", code(lambda: bkrp.hBackuprKey(dce, RESTORE, b"x")))
except rpcrt.DCERPCException as e:
    print("wrong password", e)

try:
    bind("ndr", 6, interface=uuidtup_to_bin(("12345678-1234-abcd-ef00-0123456789ab", "1.0")))
    print("unknown interface bound")
except rpcrt.DCERPCException as e:
    print("unknown interface", e)
