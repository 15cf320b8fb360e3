// node send.js HOST PORT CALLED-AE FILE...
// Sends files with dcmjs-dimse, each in the transfer syntax it is in. Exits 1 unless all were answered with success.
const { Client, Dataset, Transcoding, requests, constants } = require('dcmjs-dimse');

const [host, port, called, ...files] = process.argv.slice(2);
const client = new Client();
let stored = 0;
for (const file of files) {
	const request = new requests.CStoreRequest(Dataset.fromFile(file));
	request.on('response', (response) => {
		if (response.getStatus() === constants.Status.Success) stored++;
		else console.error(file, response.toString());
	});
	client.addRequest(request);
}
client.on('networkError', (e) => {
	console.error(e);
	process.exit(1);
});
client.on('closed', () => process.exit(stored === files.length ? 0 : 1));
// It proposes both uncompressed syntaxes in one context, and so may have to change one into the other.
Transcoding.initializeAsync().then(() => client.send(host, Number(port), 'DCMJS', called));
