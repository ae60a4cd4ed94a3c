"""Log on with impacket and the tickets of a cache: to SMB in each dialect, and
to RPC on a TCP port, sealed (impacket 0.10 fails when it is to sign without
sealing). The RPC server answers BackuprKey with its input reversed, which has the given sizes."""
import sys

from impacket.dcerpc.v5 import bkrp, rpcrt, transport
from impacket.smbconnection import SMBConnection

host, smb_port, rpc_port, kdc, user, realm = sys.argv[1:7]
sizes = [int(n) for n in sys.argv[7:]]

for dialect in (0x0202, 0x0210, 0x0300, 0x0311):
    smb = SMBConnection(host, "127.0.0.1", sess_port=int(smb_port), preferredDialect=dialect)
    smb.kerberosLogin(user, "", realm, kdcHost=kdc, useCache=True)
    tree = smb.connectTree("IPC$")
    pipe = smb.openFile(tree, "\\echo")
    message = (200).to_bytes(4, "little") + bytes(range(196))
    smb.writeFile(tree, pipe, message)
    print("smb", hex(smb.getDialect()), "ok" if smb.readFile(tree, pipe, bytesToRead=200) == message else "differs")
    smb.logoff()

level = rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY
t = transport.DCERPCTransportFactory("ncacn_ip_tcp:127.0.0.1[%s]" % rpc_port)
t.setRemoteName(host)
t.set_credentials(user, "", realm)
t.set_kerberos(True, kdc)
dce = t.get_dce_rpc()
dce.set_credentials(*t.get_credentials())
dce.set_auth_type(rpcrt.RPC_C_AUTHN_GSS_NEGOTIATE)
dce.set_auth_level(level)
dce.connect()
dce.bind(bkrp.MSRPC_UUID_BKRP)
for n in sizes:
    data = bytes(i * 7 % 251 for i in range(n))
    answer = bkrp.hBackuprKey(dce, bkrp.BACKUPKEY_RESTORE_GUID, data)
    print("rpc", n, "ok" if b"".join(answer["ppDataOut"]) == data[::-1] else "differs")
