// Package bkrpserver is a BackupKey Remote Protocol server ([MS-BKRP] 3.1).
//
// Service is the protocol's one method, BackuprKey, without any transport: it
// authorises the caller, audits the call, and runs one of the four actions on
// the keys of a keystore.Store. Server puts a Service behind DCE/RPC on named
// pipes over SMB 2 and 3, as clients expect it.
//
// Whoever embeds the server makes a Store, fills a Config and calls Serve:
//
//	srv, err := bkrpserver.New(bkrpserver.Config{
//		Service: &bkrpserver.Service{Store: store, Logger: log},
//		Logger:  log,
//	})
//	...
//	err = srv.Serve(ctx, listener)
//
// On a machine where Samba serves SMB, ListenSamba takes BackupKey's pipes from
// it instead.
//
// Neither SMB file sharing nor any other RPC interface than BackupKey and the
// few LSA calls around it is served; nothing here deletes a key.
package bkrpserver
