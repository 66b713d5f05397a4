package tailrace_test

import (
	"net"
	"syscall"
)

// narrow gives a socket that is about to connect a small receive buffer, so
// that a reader that stops is felt soon, and the segments of an ordinary
// network: with the huge ones of loopback the kernel would dole out what a
// full window left over, one segment each 200 ms.
func narrow(_, _ string, rc syscall.RawConn) error {
	var err error
	cerr := rc.Control(func(fd uintptr) {
		if err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, smallBuffer); err == nil {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400)
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// vanish makes every packet to c get lost before TCP sees it, as if the
// client's machine had lost its network: there is no FIN, no reset and no
// acknowledgement.
func vanish(c *net.TCPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) {
		//lint:ignore SA1019 what replaces it is another module, for one instruction
		err = syscall.AttachLsf(int(fd), []syscall.SockFilter{{Code: syscall.BPF_RET | syscall.BPF_K}})
	})
	if cerr != nil {
		return cerr
	}
	return err
}
