# Asks an LSA on a TCP port by impacket's RPC runtime, in both transfer
# syntaxes, and says what it answers.
import sys

from impacket import crypto
from impacket.dcerpc.v5 import lsad, lsat, rpcrt, transport
from impacket.dcerpc.v5.dtypes import MAXIMUM_ALLOWED

port, user, password, session_key = sys.argv[1:]
SYNTAXES = {"ndr": ("8a885d04-1ceb-11c9-9fe8-08002b104860", "2.0"),
            "ndr64": ("71710533-beba-4937-8319-b5dbef9ccc36", "1.0")}


def status(call):
    try:
        call()
    except rpcrt.DCERPCException as e:
        return "0x%x" % e.get_error_code() if e.get_error_code() else str(e)
    return "none"


def names(answer):
    domains = [d["Name"] + " " + d["Sid"].formatCanonical() for d in answer["ReferencedDomains"]["Domains"]]
    for t in answer["TranslatedNames"]["Names"]:
        yield "%d %s %s" % (t["Use"], t["Name"], domains[t["DomainIndex"]] if t["DomainIndex"] >= 0 else "-")


def sids(answer):
    domains = [d["Name"] + " " + d["Sid"].formatCanonical() for d in answer["ReferencedDomains"]["Domains"]]
    for t in answer["TranslatedSids"]["Sids"]:
        yield "%d %d %s" % (t["Use"], t["RelativeId"], domains[t["DomainIndex"]] if t["DomainIndex"] >= 0 else "-")


def decrypt(sealed):
    # impacket's own function talks while it works; quiet it.
    out, sys.stdout = sys.stdout, open("/dev/null", "w")
    try:
        return crypto.decryptSecret(bytes.fromhex(session_key), sealed)
    finally:
        sys.stdout = out


for syntax in SYNTAXES:
    t = transport.DCERPCTransportFactory("ncacn_ip_tcp:127.0.0.1[%s]" % port)
    t.set_credentials(user, password, "BKRP")
    dce = t.get_dce_rpc()
    dce.set_credentials(*t.get_credentials())
    dce.set_auth_level(rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY)
    dce.connect()
    dce.bind(lsad.MSRPC_UUID_LSAD, transfer_syntax=SYNTAXES[syntax])

    who = lsat.hLsarGetUserName(dce)
    print(syntax, "user", who["UserName"], "domain", who["DomainName"])
    policy = lsad.hLsarOpenPolicy2(dce, MAXIMUM_ALLOWED)["PolicyHandle"]
    for line in sids(lsat.hLsarLookupNames(dce, policy, ("alice", "BKRP\\guest", "NT AUTHORITY\\SYSTEM"))):
        print(syntax, "sid", line)
    for line in names(lsat.hLsarLookupSids(dce, policy, ("S-1-5-21-1-2-3-1103", "S-1-5-21-1-2-3-501", "S-1-5-18"))):
        print(syntax, "name", line)
    print(syntax, "one of two", status(lambda: lsat.hLsarLookupNames(dce, policy, ("alice", "nobody"))))
    print(syntax, "none", status(lambda: lsat.hLsarLookupNames(dce, policy, ("nobody",))))
    print(syntax, "private", decrypt(lsad.hLsarRetrievePrivateData(dce, policy, "G$BCKUPKEY_P")).hex())
    secret = lsad.hLsarOpenSecret(dce, policy, "G$BCKUPKEY_P", MAXIMUM_ALLOWED)["SecretHandle"]
    print(syntax, "absent", status(lambda: lsad.hLsarOpenSecret(dce, policy, "G$BCKUPKEY_absent", MAXIMUM_ALLOWED)))
    answer = lsad.hLsarQuerySecret(dce, secret)
    print(syntax, "secret", decrypt(b"".join(answer["EncryptedCurrentValue"]["Buffer"])).hex())
    lsad.hLsarClose(dce, secret)
    lsad.hLsarClose(dce, policy)
    print(syntax, "closed", status(lambda: lsad.hLsarClose(dce, policy)))
