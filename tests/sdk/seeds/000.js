// Walkthrough 000, pasted step by step into a node REPL: an assistant whose API the server calls itself.
const OpenAI = require('openai');

const openai = new OpenAI({
    baseURL: 'http://localhost:3000',
    apiKey: 'EMPTY',
});

let threadId, assistantId, runId;
// ---
const openapi_spec = `
openapi: 3.0.0
info:
  title: MediaWiki Random API
  description: This API returns a set of random pages from MediaWiki.
  version: 1.0.0
servers:
  - url: https://en.wikipedia.org/w
    description: Wikipedia API Server
paths:
  /api.php:
    get:
      operationId: getRandomPages
      summary: Get a set of random pages
      description: Returns a list of random pages from MediaWiki.
      parameters:
        - name: action
          in: query
          required: true
          description: The action to perform.
          schema:
            type: string
            default: query
        - name: format
          in: query
          required: true
          description: The format of the output.
          schema:
            type: string
            default: json
        - name: list
          in: query
          required: true
          description: Specify the list as random.
          schema:
            type: string
            default: random
        - name: rnnamespace
          in: query
          required: false
          description: Return pages in these namespaces only.
          schema:
            type: string
        - name: rnfilterredir
          in: query
          required: false
          description: How to filter for redirects.
          schema:
            type: string
            enum: [all, nonredirects, redirects]
            default: nonredirects
        - name: rnlimit
          in: query
          required: false
          description: Limit how many random pages will be returned.
          schema:
            type: integer
            default: 1
            minimum: 1
            maximum: 500
      responses:
        '200':
          description: A list of random pages
          content:
            application/json:
              schema: 
                type: object
                properties:
                  batchcomplete:
                    type: string
                  continue:
                    type: object
                    properties:
                      rncontinue:
                        type: string
                      continue:
                        type: string
                  query:
                    type: object
                    properties:
                      random:
                        type: array
                        items:
                          type: object
                          properties:
                            id:
                              type: integer
                            ns:
                              type: integer
                            title:
                              type: string
`;
// ---
async function createAssistant() {
    const assistant = await openai.beta.assistants.create({
        name: "Todo Helper",
        instructions: "You are an assistant that gives random Wikipedia pages.",
        tools: [
            {
                "type": "action",
                "data": {"openapi_spec": openapi_spec},
            }
        ],
        model: "mistralai/Mistral-7B-Instruct-v0.2-q4f16_1-MLC"
    });
    assistantId = assistant.id;
    console.log(JSON.stringify(assistant, null, 2));
}

createAssistant();
// ---
async function createThread() {
    const thread = await openai.beta.threads.create();
    threadId = thread.id;
    console.log(JSON.stringify(thread, null, 2));
}
createThread();
// ---
async function createMessage() {
    const message = await openai.beta.threads.messages.create(
        threadId,
        {
            role: "user",
            content: "Give me a page",
        }
    );
    console.log(JSON.stringify(message, null, 2));
}
createMessage();
// ---
async function createRun() {
    const run = await openai.beta.threads.runs.create(
        threadId,
    { 
        assistant_id: assistantId,
        instructions: "You are a wikipedia bot. Use the provided action to get random pages."
    }
    );
    runId = run.id;
    console.log(JSON.stringify(run, null, 2));
}
createRun();
// ---
async function getRun() {
    const run = await openai.beta.threads.runs.retrieve(
        threadId,
        runId
    );
    console.log(JSON.stringify(run, null, 2));
}
getRun();
// ---
async function getMessages() {
    const messages = await openai.beta.threads.messages.list(
        threadId
    );
    console.log(JSON.stringify(messages, null, 2));
}
getMessages();
