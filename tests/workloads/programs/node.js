// A server that answers each line with how many lines this connection has sent, a total and a word kept in memory.
const net = require('node:net');
const crypto = require('node:crypto');
const zlib = require('node:zlib');

const secret = crypto.randomBytes(8).toString('hex');
let total = 0;

const server = net.createServer((socket) => {
  let count = 0;
  let rest = '';
  socket.on('data', (data) => {
    const lines = (rest + data).split('\r\n');
    rest = lines.pop();
    for (const line of lines) {
      count += 1;
      total += 1;
      // by the thread pool, so that more than the loop is moved
      zlib.deflate(line, (error, packed) => {
        const back = error ? String(error) : zlib.inflateSync(packed).toString();
        socket.write(`${back} ${count} ${secret}\r\n`);
      });
    }
  });
});
const address = process.argv[2];
server.listen(/^\d+$/.test(address) ? { port: Number(address), host: '0.0.0.0' } : { path: address });
setInterval(() => { if (total < 0) process.exit(1); }, 10);
