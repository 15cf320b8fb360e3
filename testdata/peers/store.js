// node store.js PORT FOLDER
// Accepts every context in the first transfer syntax proposed, but a deflated one, which dcmjs-dimse takes and misreads,
// and writes each object as dcmjs-dimse understands it.
const path = require('path');
const { Server, Scp, responses, constants } = require('dcmjs-dimse');

const [port, folder] = process.argv.slice(2);
const deflated = '1.2.840.10008.1.2.1.99';

class Store extends Scp {
	associationRequested(association) {
		for (const { id } of association.getPresentationContexts()) {
			const context = association.getPresentationContext(id);
			const syntax = context.getTransferSyntaxUids()[0];
			const { Accept, RejectTransferSyntaxesNotSupported } = constants.PresentationContextResult;
			context.setResult(syntax === deflated ? RejectTransferSyntaxesNotSupported : Accept, syntax);
		}
		this.sendAssociationAccept();
	}

	cEchoRequest(request, callback) {
		const response = responses.CEchoResponse.fromRequest(request);
		response.setStatus(constants.Status.Success);
		callback(response);
	}

	cStoreRequest(request, callback) {
		const response = responses.CStoreResponse.fromRequest(request);
		try {
			request.getDataset().toFile(path.join(folder, request.getAffectedSopInstanceUid()));
			response.setStatus(constants.Status.Success);
		} catch (e) {
			console.error(e);
			response.setStatus(constants.Status.ProcessingFailure);
		}
		callback(response);
	}

	associationReleaseRequested() {
		this.sendAssociationReleaseResponse();
	}
}

const server = new Server(Store);
server.on('networkError', (e) => console.error(e));
server.listen(Number(port));
