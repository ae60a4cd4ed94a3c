#!/usr/bin/env python3
"""BackuprKey through impacket, for the tests of package interop.

Reads one JSON object on standard input:

    {"host": "127.0.0.1", "port": 4445, "domain": "BKRP", "user": "alice",
     "password": "...", "ndr64": false, "sid": "S-1-5-21-...",
     "wrap": [hex, ...], "calls": [{"action": "RESTORE", "data": hex}, ...],
     "kerberos": {"name": "srv1.bkrp.test", "kdc": "127.0.0.2", "ccache": "..."}}

where kerberos is left out for a logon by NTLM, and the credential cache has the
tickets for cifs/ and host/ of the name already. It writes one on standard output:

    {"certificate": hex, "wrapped": [{"version": 2, "blob": hex}, ...],
     "results": [{"status": 0, "data": hex}, ...]}

Each secret of "wrap" is wrapped here for the SID, in version 2 and 3 of
[MS-BKRP] 2.2.2, by PyCryptodome under the key the server gives out. Results
are the octets of ppDataOut as they are on the wire, before any helper of
impacket has looked at them.
"""
import hashlib
import json
import os
import struct
import sys

from Cryptodome.Cipher import AES, DES3, PKCS1_v1_5
from Cryptodome.PublicKey import RSA
from Cryptodome.Util.asn1 import DerSequence
from impacket.dcerpc.v5 import bkrp, rpcrt, transport

NDR64 = ("71710533-beba-4937-8319-b5dbef9ccc36", "1.0")

ACTIONS = {
    "BACKUP": bkrp.BACKUPKEY_BACKUP_GUID,
    "RESTORE_WIN2K": bkrp.BACKUPKEY_RESTORE_GUID_WIN2K,
    "RETRIEVE": bkrp.BACKUPKEY_RETRIEVE_BACKUP_KEY_GUID,
    "RESTORE": bkrp.BACKUPKEY_RESTORE_GUID,
}


def bind(job):
    binding = r"ncacn_np:%s[\pipe\protected_storage]" % job["host"]
    smb = transport.DCERPCTransportFactory(binding)
    smb.set_dport(job["port"])
    smb.set_credentials(job["user"], job["password"], job["domain"])
    tickets = job.get("kerberos")
    if tickets:
        os.environ["KRB5CCNAME"] = tickets["ccache"]
        smb.setRemoteName(tickets["name"])
        smb.setRemoteHost(job["host"])
        smb.set_kerberos(True, tickets["kdc"])
    dce = smb.get_dce_rpc()
    if tickets:
        dce.set_auth_type(rpcrt.RPC_C_AUTHN_GSS_NEGOTIATE)
    dce.set_auth_level(rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY)
    dce.connect()
    if job.get("ndr64"):
        dce.bind(bkrp.MSRPC_UUID_BKRP, transfer_syntax=NDR64)
    else:
        dce.bind(bkrp.MSRPC_UUID_BKRP)
    return dce


def call(dce, action, data):
    request = bkrp.BackuprKey()
    request["pguidActionAgent"] = ACTIONS[action]
    request["pDataIn"] = data
    request["cbDataIn"] = len(data)
    request["dwParam"] = 0
    # checkError off: a status is a result here, not an exception.
    answer = dce.request(request, checkError=False)
    null = answer.fields["ppDataOut"]["ReferentID"] == 0
    out = b"" if null else b"".join(answer["ppDataOut"])
    if len(out) != answer["pcbDataOut"]:
        raise ValueError("pcbDataOut is not the length of ppDataOut")
    return answer["ErrorCode"], out


def der_children(der):
    sequence = DerSequence()
    sequence.decode(der)
    return list(sequence)


def read_certificate(certificate):
    """The public key and the GUID of a certificate of [MS-BKRP] 2.2.1."""
    tbs = der_children(der_children(certificate)[0])
    # version, serial, signature, issuer, validity, subject, key, [1], [2]
    key = RSA.import_key(tbs[6])
    unique_id = tbs[8]
    if unique_id[:1] != b"\x82" or len(unique_id) != 19:
        raise ValueError("no subjectUniqueID of 16 octets")
    return key, unique_id[3:]


def binary_sid(text):
    parts = [int(p) for p in text.split("-")[2:]]
    head = struct.pack(">BBQ", 1, len(parts) - 1, parts[0])
    return head[:2] + head[4:] + b"".join(struct.pack("<L", p) for p in parts[1:])


def wrap(certificate, sid, secret, version):
    key, guid = read_certificate(certificate)
    if version == 2:
        block, digest = 8, hashlib.sha1
        enc_key = DES3.adjust_key_parity(os.urandom(24))
        algorithms = b""
    else:
        block, digest = 16, hashlib.sha512
        enc_key = os.urandom(32)
        algorithms = struct.pack("<LL", 0x6610, 0x800E)
    iv = os.urandom(block)
    check = struct.pack("<LL", 1, 32) + os.urandom(32) + binary_sid(sid)
    check += os.urandom(-(len(check) + digest().digest_size) % block)
    check += digest(check).digest()
    cipher = DES3.new(enc_key, DES3.MODE_CBC, iv) if version == 2 else AES.new(enc_key, AES.MODE_CBC, iv)
    payload_key = enc_key + iv
    plain = struct.pack("<LL", len(secret), len(payload_key)) + algorithms + secret + payload_key
    sealed = PKCS1_v1_5.new(key).encrypt(plain)[::-1]
    head = struct.pack("<LLL", version, len(sealed), len(check))
    return head + guid + sealed + cipher.encrypt(check)


def main():
    job = json.load(sys.stdin)
    dce = bind(job)
    result = {"wrapped": [], "results": []}
    if job.get("wrap"):
        status, certificate = call(dce, "RETRIEVE", b"")
        if status != 0:
            raise ValueError("RETRIEVE: status 0x%x" % status)
        result["certificate"] = certificate.hex()
        for secret in job["wrap"]:
            for version in (2, 3):
                blob = wrap(certificate, job["sid"], bytes.fromhex(secret), version)
                result["wrapped"].append({"version": version, "blob": blob.hex()})
    for c in job.get("calls", []):
        status, data = call(dce, c["action"], bytes.fromhex(c["data"]))
        result["results"].append({"status": status, "data": data.hex()})
    dce.disconnect()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
