"""Log on with impacket in each dialect it offers and use the pipe "echo"."""
import sys

from impacket.smb3structs import FSCTL_PIPE_TRANSCEIVE, SMB2_0_IOCTL_IS_FSCTL
from impacket.smbconnection import SMBConnection

port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
message = (200).to_bytes(4, "little") + bytes(range(196))

for dialect in (None, 0x0202, 0x0210, 0x0300, 0x0311):
    smb = SMBConnection("127.0.0.1", "127.0.0.1", sess_port=port, preferredDialect=dialect)
    if dialect == 0x0311:
        # With NTLM impacket 0.10 begins the session's preauthentication hash
        # at zero and not at the connection's ([MS-SMB2] 3.2.5.3), so that its
        # keys are wrong: Samba, too, refuses its first request as we do.
        state = smb.getSMBServer()
        state._Session["PreauthIntegrityHashValue"] = state._Connection["PreauthIntegrityHashValue"]
    smb.login(user, password, "BKRP")
    tree = smb.connectTree("IPC$")
    pipe = smb.openFile(tree, "\\echo")
    smb.writeFile(tree, pipe, message)
    if smb.readFile(tree, pipe, bytesToRead=200) != message:
        sys.exit("read: not what was written")
    server = smb.getSMBServer()
    if server.ioctl(tree, pipe, FSCTL_PIPE_TRANSCEIVE, SMB2_0_IOCTL_IS_FSCTL, message, maxOutputResponse=500) != message:
        sys.exit("transceive: not what was written")
    smb.closeFile(tree, pipe)
    smb.logoff()
    print(hex(smb.getDialect()), "ok")
